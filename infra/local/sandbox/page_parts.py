"""The look of the sandboxes' hosted pages: plain HTML with forms, no script, everything escaped."""
from datetime import datetime, timezone
from html import escape

from .http import Answer

STYLE = """
body{font:16px/1.5 system-ui,sans-serif;background:#f6f8fa;color:#1a1f36;margin:0}
main{max-width:34rem;margin:2rem auto;padding:1.5rem;background:#fff;border-radius:.6rem;box-shadow:0 1px 4px #0002}
.test{background:#ffde92;color:#3d2c00;text-align:center;padding:.2rem;font-size:.8rem}
label{display:block;margin:.7rem 0 .2rem}input,select,textarea{font:inherit;width:100%;box-sizing:border-box;padding:.45rem;border:1px solid #8792a2;border-radius:.3rem}
button{font:inherit;padding:.5rem 1rem;margin-top:1rem;border:0;border-radius:.3rem;background:#3a4bc8;color:#fff;cursor:pointer}
table{font-size:.85rem}button.quiet{background:#e6e9f0;color:#1a1f36}section{border-top:1px solid #e3e8ee;margin-top:1.2rem;padding-top:.6rem}
.error{color:#b3093c}.ok{color:#006908}table{width:100%;border-collapse:collapse}td,th{text-align:left;padding:.3rem}h1{font-size:1.3rem}h2{font-size:1.05rem}
"""
HEADERS = {"Content-Type": "text/html; charset=utf-8", "Cache-Control": "no-store", "Referrer-Policy": "no-referrer",
           "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"}


def page(title, *parts, banner, status=200):
    """An HTML page under a line that says whose it is; `parts` are ready HTML."""
    html = (f"<!doctype html><html lang=en><head><meta charset=utf-8><meta name=viewport content='width=device-width'>"
            f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><div class=test>{escape(banner)}</div>"
            f"<main><h1>{escape(title)}</h1>{''.join(parts)}</main></body></html>")
    return Answer(status, dict(HEADERS), html.encode())


def form(action, button, *fields, quiet=False, name=None):
    """A form that posts `fields` (ready HTML); `name` is its id, for a client that looks for it."""
    return (f"<form method=post action='{escape(action)}'{f' id={escape(name)!r}' if name else ''}>{''.join(fields)}"
            f"<button{' class=quiet' if quiet else ''}>{escape(button, quote=False)}</button></form>")


def field(label, name, *, value="", kind="text", required=True):
    """A labelled input."""
    return (f"<label for='{name}'>{escape(label)}</label><input id='{name}' name='{name}' type='{kind}' value='{escape(value or '')}'"
            f"{' required' if required else ''}>")


def choice(label, name, options):
    """A labelled, optional select; `options` are (value, text)."""
    shown = "".join(f"<option value='{escape(value)}'>{escape(text)}</option>" for value, text in options)
    return f"<label for='{name}'>{escape(label)}</label><select id='{name}' name='{name}'><option value=''></option>{shown}</select>"


def link(url, text, name=None):
    """A link; only http(s) ones lead anywhere."""
    safe = url if url.startswith(("http://", "https://", "/")) else "#"
    return f"<p><a href='{escape(safe)}'{f' id={escape(name)!r}' if name else ''}>{escape(text)}</a></p>"


def alert(text, kind="error"):
    """A line that something went wrong (or well)."""
    return f"<p class={kind} role={'alert' if kind == 'error' else 'status'}>{escape(text)}</p>" if text else ""


def table(rows):
    """Rows of plain text."""
    return "<table>" + "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows) + "</table>"


def day(instant):
    """31 January 2026, 12:00 UTC."""
    at = datetime.fromtimestamp(instant, timezone.utc)
    return f"{at.day} {at:%B %Y, %H:%M} UTC"
