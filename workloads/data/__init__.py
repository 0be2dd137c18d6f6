"""From a data file to the samples that a training consumes, in order. No torch: planner and trainer share it."""
