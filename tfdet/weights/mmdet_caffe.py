"""mmdetection's weights whose ResNets are in the style "caffe": see `weights.mmdet`.

Their stride is in the first 1x1 convolution, and they see the colours in the order blue, green,
red.
"""

from tfdet.weights import mmdet

SOURCE = mmdet.source("mmdet_caffe", 'mmdetection, style "caffe"', mmdet.CAFFE)
