"""Detections to AP, and the AP of a dynamic detector over its cost."""
