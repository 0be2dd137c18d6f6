"""What is seen of the store and of what runs: frozen values for the planner, and what reads them."""
