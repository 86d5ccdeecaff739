"""Studies: several recipes, each trained from several seeds, and what they came to side by side."""
