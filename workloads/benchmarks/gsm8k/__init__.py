"""GSM8K: 1,319 word problems of grade-school arithmetic, the test split."""
