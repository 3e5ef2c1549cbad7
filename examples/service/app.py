"""An exported model over HTTP, for many clients at once.

    LATENTMILL_EXPORT=exports/vae uvicorn --app-dir examples/service --factory app:create

    POST /sample {"n": 4, "seed": 0, "temperature": 1.0}    drawn images, the same for the same seed
    POST /decode {"z": [[…], …]}                            images of your own codes, each a flat row (n, latent)
    GET  /card                                              what the model is, and how far it can be trusted
    GET  /healthz                                           images that wait, and how many batches there were by size

A conditional model takes "label" too, a class for all images or a list with one for each: /decode requires it if the
decoder takes one, /sample draws labels by their frequency without it. A guided model's /sample takes "guidance".
Images are one PNG, or an array (n, C, H, W) float32 in [0, 1] for `Accept: application/x-npy`. What is wrong with a
request stands in `detail`: 413 and 422 should not be tried again, 429 should, after the seconds in Retry-After.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import BytesIO
from typing import Any

import numpy as np
from batching import Batcher, FullError, Rows, Run
from body_limit import BodyLimit
from fastapi import APIRouter, FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from model import Model
from pydantic import BaseModel, ConfigDict, Field
from settings import Settings

from latentmill.errors import InputError, escaped, shown
from latentmill.runtime.guidance import STRONGEST
from latentmill.runtime.images import grid, png
from latentmill.runtime.noise import HOTTEST

NPY = "application/x-npy"
router = APIRouter()


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Draw(Body):
    n: int = 1
    seed: int = Field(0, ge=0, lt=1 << 64)
    temperature: float = Field(1.0, ge=0, le=HOTTEST)
    label: str | list[str] | None = None
    guidance: float = Field(1.0, ge=0, le=STRONGEST)


class Codes(Body):
    z: list[list[float]]
    label: str | list[str] | None = None


@router.post("/sample")
async def sample(body: Draw, request: Request) -> Response:
    model = request.app.state.model
    _check_count("n", body.n, request)
    rows = model.noise(body.n, body.seed, body.temperature, body.label, body.guidance)
    return await _answer(request, model.generate, rows)


@router.post("/decode")
async def decode(body: Codes, request: Request) -> Response:
    model = request.app.state.model
    _check_count("the rows of z", len(body.z), request)
    return await _answer(request, model.decode, model.codes(body.z, body.label))


@router.get("/card")
async def card(request: Request) -> dict[str, Any]:
    found: dict[str, Any] = request.app.state.model.card
    return found


@router.get("/healthz")
async def healthz(request: Request) -> dict[str, Any]:
    batcher: Batcher = request.app.state.batcher
    return {"status": "ok", "queued": batcher.queued, "batches": batcher.sizes}


def _check_count(name: str, count: int, request: Request) -> None:
    most = request.app.state.settings.max_images
    if not 1 <= count <= most:
        raise InputError(f"{name} must be from 1 to {most}, but got {shown(count)}")


async def _answer(request: Request, run: Run, rows: Rows) -> Response:
    """The images, as the client accepts them; no more is done for a client that has gone."""
    images = asyncio.create_task(request.app.state.batcher.compute(run, rows))
    gone = asyncio.create_task(_disconnected(request))
    try:
        await asyncio.wait([images, gone], return_when=asyncio.FIRST_COMPLETED)
        if not images.done():
            raise HTTPException(499, "the client has gone")
        kind, write = (NPY, _npy) if NPY in request.headers.get("accept", "") else ("image/png", _png)
        return Response(await asyncio.to_thread(write, images.result()), media_type=kind)
    finally:
        images.cancel()
        gone.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _npy(images: np.ndarray) -> bytes:
    np.save(file := BytesIO(), images)
    return file.getvalue()


def _png(images: np.ndarray) -> bytes:
    return png(grid(images))


async def _invalid(_: Request, error: InputError) -> Response:
    return JSONResponse({"detail": escaped(str(error))}, 422)


async def _malformed(_: Request, error: RequestValidationError) -> Response:
    """The first of what pydantic found, in one line."""
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return JSONResponse({"detail": f"a body must be JSON, but: {first['ctx']['error']}"}, 422)
    name = escaped(".".join(map(str, first["loc"][1:]))[:100]) or "a body"
    rule = first["msg"].replace("Input should be", "must be").replace("Field required", "must be given")
    rule = rule.replace("Extra inputs are not permitted", "must be left out")
    return JSONResponse({"detail": f"{name} {rule}, but got {escaped(str(first['input'])[:40])}"}, 422)


async def _full(request: Request, _: FullError) -> Response:
    text = f"at most {request.app.state.settings.max_queue} images may wait, and there is no room for yours now"
    return JSONResponse({"detail": text}, 429, {"Retry-After": "1"})


def create(settings: Settings | None = None) -> FastAPI:
    """The service; requests in flight when the server has to stop are still answered."""
    settings = settings or Settings.from_environment()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        batcher = Batcher(settings.max_batch, settings.max_queue, settings.delay_ms / 1000)
        model = Model(settings.export, settings.threads)
        app.state.settings, app.state.model, app.state.batcher = settings, model, batcher
        work = asyncio.create_task(batcher.work())
        yield
        work.cancel()

    app = FastAPI(title="latentmill", lifespan=lifespan)
    app.include_router(router)
    app.add_middleware(BodyLimit, most=settings.max_body)
    app.exception_handler(InputError)(_invalid)
    app.exception_handler(RequestValidationError)(_malformed)
    app.exception_handler(FullError)(_full)
    return app
