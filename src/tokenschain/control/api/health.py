"""Health checks of control, and a small page for whoever opens it in a browser.

(No postponed annotations here: FastAPI reads them.)
"""

from html import escape

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from tokenschain import __version__
from tokenschain.control import revisions
from tokenschain.control.api.context import context_of
from tokenschain.infra.database.engine import reading

router = APIRouter(include_in_schema=False)


@router.get("/livez")
async def livez() -> dict[str, bool]:
    """The process answers."""
    return {"live": True}


@router.get("/readyz")
def readyz(request: Request) -> dict[str, int | bool]:
    """The database answers, too."""
    with reading(context_of(request).engine) as db:
        return {"ready": True, "revision": revisions.current(db)}


@router.get("/", response_class=HTMLResponse)
async def home(request: Request) -> str:
    """Where the admin API is, and which models are served; the console comes later."""
    publisher = context_of(request).publisher
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td>{escape(route.kind)}</td>"
        f"<td>{escape(', '.join(offer.upstream for offer in route.offers))}</td></tr>"
        for name, route in publisher.snapshot.models.items()
    )
    return f"""<!doctype html><html lang="en"><meta charset="utf-8">
<title>TokensChain control</title>
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:3rem auto;padding:0 1rem}}
table{{border-collapse:collapse;width:100%}}td,th{{text-align:left;padding:.3rem .6rem;
border-bottom:1px solid #ddd}}code{{background:#f4f4f4;padding:.1rem .3rem}}</style>
<h1>TokensChain control <small>{escape(__version__)}</small></h1>
<p>Configuration <code>{escape(publisher.version)}</code>. The admin API is under
<code>/api/v1</code>, described at <a href="/openapi.json">/openapi.json</a>;
send the admin token as <code>Authorization: Bearer</code>.</p>
<p lang="zh">控制面管理接口位于 <code>/api/v1</code>，接口说明见
<a href="/openapi.json">/openapi.json</a>；请在请求头中携带管理员令牌。</p>
<h2>Models · 模型</h2>
<table><tr><th>Model</th><th>Kind</th><th>Upstreams</th></tr>{rows}</table></html>"""
