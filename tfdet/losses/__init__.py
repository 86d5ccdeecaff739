"""Raw predictions and targets to loss terms: assignment, box and class losses, routing."""
