"""Writes five images through both of FFCV's codecs and reads them back: a broken build may still import."""

import tempfile

import numpy as np
from ffcv.fields import IntField, RGBImageField
from ffcv.loader import Loader, OrderOption
from ffcv.writer import DatasetWriter

ramp = np.arange(64, dtype=np.uint8).reshape(8, 8, 1) * np.ones((1, 1, 3), np.uint8)
images = [(ramp + 10 * i, i) for i in range(5)]
for codec, tolerance in ("raw", 0), ("jpg", 12):
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/five.beton"
        fields = {"image": RGBImageField(write_mode=codec, jpeg_quality=100), "label": IntField()}
        DatasetWriter(path, fields, num_workers=1).from_indexed_dataset(images)
        loader = Loader(path, batch_size=5, num_workers=1, order=OrderOption.SEQUENTIAL)
        ((image, label),) = [[part.numpy() for part in batch] for batch in loader]
    assert label.ravel().tolist() == list(range(5)), label
    worst = max(np.abs(image[i].astype(int) - images[i][0]).max() for i in range(5))
    assert worst <= tolerance, f"{codec}: pixels differ by {worst}"
