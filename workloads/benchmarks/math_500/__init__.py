"""MATH-500: 500 problems of competition mathematics."""
