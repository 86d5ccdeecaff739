"""Pictures of detections and routes, and the figures of trainings, trade-offs and searches."""
