"""A real FTP server in its own process, which can be slow, full, stopped and started again."""

import subprocess
import sys

PROGRAM = """
import sys
from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import FTPHandler, ThrottledDTPHandler
from pyftpdlib.servers import FTPServer

folder, port, rights, limit = sys.argv[1:]
heard = open(folder + ".log", "a", buffering=1)

class Handler(FTPHandler):
    authorizer, auth_failed_timeout = DummyAuthorizer(), 0
    dtp_handler = ThrottledDTPHandler

    def pre_process_command(self, line, cmd, arg):
        print(cmd, arg, file=heard)
        super().pre_process_command(line, cmd, arg)

Handler.authorizer.add_user("me", "secret", folder, perm=rights)
ThrottledDTPHandler.read_limit = int(limit)
server = FTPServer(("127.0.0.1", int(port)), Handler)
print(server.address[1], flush=True)
server.serve_forever()
"""
ALL, READ = "elradfmwMT", "elr"
"""All permissions, in pyftpdlib's letters."""


class Ftp:
    """Serves a folder of this machine and records the commands that it receives."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir(exist_ok=True)
        (folder / "data").mkdir(exist_ok=True)
        self._log = folder.with_name(folder.name + ".log")
        self._port, self._process = 0, None
        self.start()

    def start(self, rights=ALL, limit=0):
        """Serves with these rights; accepts `limit` bytes per second (0: no limit)."""
        arguments = [str(self.folder), str(self._port), rights, str(limit)]
        self._process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *arguments],
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._port = int(self._process.stdout.readline())

    def stop(self):
        """Ends at once, like a machine that loses power."""
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()

    def url(self, path):
        """The URL of a file or folder below the one that is served."""
        return f"ftp://me:secret@127.0.0.1:{self._port}/data/{path}"

    def shown(self, path):
        """The same URL as messages show it, without the password."""
        return f"ftp://me:***@127.0.0.1:{self._port}/data/{path}"

    def names(self, path):
        """The names of the files in a folder."""
        return sorted(p.name for p in (self.folder / "data" / path).glob("*") if p.is_file())

    def heard(self, *commands):
        """The commands of these kinds received so far."""
        return [line for line in self._log.read_text().splitlines() if line.split()[0] in commands]
