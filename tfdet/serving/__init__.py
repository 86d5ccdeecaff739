"""Models to files that TensorFlow alone can run, the proof that they give the same, and one driver
for models in Python and exported ones. `tfdet.export` is the way in.
"""
