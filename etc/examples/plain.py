"""The simplest function: JSON in, JSON out."""


def f(event):
    return {"hello": event.get("name", "world")}
