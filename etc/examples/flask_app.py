# ol-install: flask
"""A WSGI application is found by its name, `app`."""

from flask import Flask

app = Flask(__name__)


@app.route("/greet/<name>")
def greet(name):
    return f"hello {name}\n"
