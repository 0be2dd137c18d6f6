"""From a data file to the ordered samples of a training. No torch: planner and trainer share it."""
