# ol-install: numpy, pandas
"""Needs pandas: forked from a zygote that has it imported, it starts in milliseconds."""

import pandas


def f(event):
    frame = pandas.DataFrame(event)
    return frame.corr().round(3).to_dict()
