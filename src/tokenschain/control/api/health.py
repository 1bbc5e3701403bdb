"""Health checks of control, and a small page for whoever opens it in a browser.

(No postponed annotations here: FastAPI reads them.)
"""

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, JSONResponse

from tokenschain.control import revisions
from tokenschain.control.api.context import AdminRoute, SignedIn, context_of
from tokenschain.infra.database.engine import reading

router = APIRouter(include_in_schema=False)
described = APIRouter(route_class=AdminRoute, include_in_schema=False)


@router.get("/livez")
async def livez() -> dict[str, bool]:
    """The process answers."""
    return {"live": True}


@router.get("/readyz")
def readyz(request: Request) -> dict[str, bool]:
    """The database answers, too."""
    with reading(context_of(request).engine) as db:
        revisions.current(db)
    return {"ready": True}


@described.get("/openapi.json")
def openapi(request: Request, _: SignedIn) -> JSONResponse:
    """The admin API's OpenAPI document, for who is signed in."""
    return JSONResponse(request.app.openapi())


@router.get("/", response_class=HTMLResponse)
async def home() -> str:
    """Where the admin API is; nothing of what is served. The console is beside it."""
    return """<!doctype html><html lang="en"><meta charset="utf-8">
<title>TokensChain control</title>
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:3rem auto;padding:0 1rem}
code{background:#f4f4f4;padding:.1rem .3rem}</style>
<h1>TokensChain control</h1>
<p>The <a href="/console">console</a>, in Chinese and English.</p>
<p>The admin API is under <code>/api/v1</code>, described at <code>/openapi.json</code>;
send the admin token as <code>Authorization: Bearer</code>.</p>
<p lang="zh"><a href="/console">控制台</a>。控制面管理接口位于 <code>/api/v1</code>，接口说明见
<code>/openapi.json</code>；请在请求头中携带管理员令牌。</p></html>"""
