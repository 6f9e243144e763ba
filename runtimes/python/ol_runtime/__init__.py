"""What runs inside a sandbox: a zygote that is forked from, and an instance that serves calls.

    start.py --- zygote.py --(fork in native code)--> instance.py
        \\______________ (a fresh interpreter) ______/   |
                                                        | handler.py    finds what to call
                                                        | plain.py      f(event)
                                                        | wsgi.py       app(environ, start_response)
                                                        | asgi.py       app(scope, receive, send)
                                                        | frames.py     the connection to the worker

User code shares the process with all of this and is not kept from anything: what it breaks, it
breaks for itself. The runtime only sees to it that nothing an ordinary function does (raising,
exiting, printing, forking, leaving threads behind) ends the serving of its calls.

Only modules of the standard library are used, and few: each one imported here is memory in every
instance and time in every fresh interpreter. CPython 3.9 and later.
"""
