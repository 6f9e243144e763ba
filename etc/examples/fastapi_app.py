# ol-install: fastapi
"""So is an ASGI application."""

from fastapi import FastAPI

app = FastAPI()


@app.get("/greet/{name}")
async def greet(name: str):
    return {"hello": name}
