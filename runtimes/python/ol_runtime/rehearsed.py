"""The function of a rehearsal."""


def f(event):
    return event
