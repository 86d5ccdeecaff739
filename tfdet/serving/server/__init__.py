"""An HTTP server of exported detectors: TensorFlow Serving's REST API, batches, effort under load.

`application.make_application` is the way in; the command is `tfdet-serve`.
"""
