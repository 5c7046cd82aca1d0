"""The site on localhost, built again when a source changes: ``make serve``.

Each build is an ordinary ``make site``, so only chapters whose code has changed are executed again, and all of them
after a change in emlib or data. The pages shown are those of the last build that succeeded; open ones reload.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("_config.yml", "_toc.yml", "book/*.md", "book/*.bib", "book/assets/**/*", "emlib/**/*.py", "data/**/*")
BUILDS = "/builds-so-far"
RELOAD = f"""<script>
  let builds;
  setInterval(async () => {{
    const now = await fetch("{BUILDS}").then((answer) => answer.text(), () => builds);
    if (builds !== undefined && now !== builds) location.reload();
    builds = now;
  }}, 1000);
</script>""".encode()


class Handler(SimpleHTTPRequestHandler):
    """Files of one folder; its pages ask every second whether there has been another build."""

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        if path.is_dir():
            path /= "index.html"
        if self.path == BUILDS:
            body, kind = str(self.server.builds).encode(), "text/plain"
        elif path.suffix == ".html" and path.is_file() and not Path(self.translate_path(self.path)).is_dir():
            body, kind = path.read_bytes() + RELOAD, "text/html; charset=utf-8"
        else:
            return super().do_GET()
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def end_headers(self) -> None:
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    """Serves ``shown``, a copy of ``site``, so that a build under way or a failed one disturbs no reader."""

    daemon_threads = True

    def __init__(self, site: Path, shown: Path, port: int):
        self.site, self.shown, self.builds = site, shown, 0
        self.show()
        super().__init__(("127.0.0.1", port), partial(Handler, directory=str(shown)))

    def show(self) -> None:
        """Shows the site as it is built now."""
        shutil.rmtree(self.shown, ignore_errors=True)
        shutil.copytree(self.site, self.shown)
        self.builds += 1


def sources(root: Path = ROOT) -> dict[Path, int]:
    """Every source of the site and when it was changed, in nanoseconds."""
    found = {}
    for path in (path for pattern in SOURCES for path in root.glob(pattern)):
        try:
            if path.is_file():
                found[path] = path.stat().st_mtime_ns
        except FileNotFoundError:  # an editor is just replacing it
            continue
    return found


def watch(look: Callable[[], dict[Path, int]], pause: float = 1.0) -> Iterable[list[Path]]:
    """Yields the sources that have changed, been added or gone since the last time, when they have come to rest."""
    known = look()
    while True:
        time.sleep(pause)
        now = look()
        if now != known:
            while now != (now := _after(pause, look)):
                pass
            yield sorted(path for path in known.keys() | now.keys() if known.get(path) != now.get(path))
            known = now


def _after(pause: float, look: Callable[[], dict[Path, int]]) -> dict[Path, int]:
    time.sleep(pause)
    return look()


def build(server: Server, command: list[str]) -> bool:
    """Builds the site and shows it, if the build succeeds."""
    done = subprocess.run(command, cwd=ROOT)
    if done.returncode:
        print("== That build failed; the pages shown are those from before", flush=True)
        return False
    server.show()
    print(f"== Built again at {time.strftime('%H:%M:%S')}", flush=True)
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("site", type=Path, help="folder of the built site")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--make", default="make", help="the make command that builds it")
    args = parser.parse_args()
    try:
        server = Server(args.site, args.site.parent / "served", args.port)
    except OSError as error:
        raise SystemExit(f"No port {args.port} ({error.strerror}); name another: make serve PORT=8001") from None
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"Serving the book at http://localhost:{server.server_port} until Ctrl-C; a changed source builds it again")
    for changed in watch(sources):
        print("== Changed:", ", ".join(str(path.relative_to(ROOT)) for path in changed[:5]), flush=True)
        build(server, [args.make, "--no-print-directory", "site"])


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(0)
