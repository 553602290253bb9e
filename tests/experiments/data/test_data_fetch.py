"""Archives and downloads: real HTTP on the loopback, real tar.gz files; a whole folder appears or nothing."""

import hashlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

import experiments.data
from experiments.data import cifar, fashion_mnist
from experiments.data.fetch import Remote, place
from tests.experiments.data.image_files import cifar_files, tar_gz, write_fashion
from tests.experiments.data.test_data import error_line
from tests.experiments.data.test_data_images import FOLDERS, config
from tests.experiments.small import loaded
from tests.places import ROOT

LAYOUTS = {"cifar10": cifar.CIFAR10, "cifar100": cifar.CIFAR100}


class Site:
    """A web server with some files; it counts requests, and breaks off early where `keeps` says so."""

    def __init__(self, address: str):
        self.address = address
        self.files: dict[str, bytes] = {}
        self.keeps: int | None = None
        self.requests: list[str] = []


@pytest.fixture
def site(monkeypatch) -> Iterator[Site]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            name = self.path.lstrip("/")
            site.requests.append(name)
            if name not in site.files:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(site.files[name])))
            self.end_headers()
            self.wfile.write(site.files[name][: site.keeps])

        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        site = Site(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield site
        server.shutdown()
        thread.join()


def publish(monkeypatch, name: str, url: str, published: bytes) -> None:
    """Let `url` be the address of `name`'s official archive, and `published` its bytes."""
    archive = Remote(url, hashlib.md5(published).hexdigest())
    layout = LAYOUTS[name]._replace(archive=archive)
    monkeypatch.setitem(experiments.data.LOADERS, name, partial(cifar.load_cifar, layout))


def archive_of(name: str, **others: bytes) -> bytes:
    return tar_gz(
        {f"{FOLDERS[name]}/{file}": content for file, content in cifar_files(name).items()} | others
    )


def test_what_a_killed_download_left_goes_with_the_next_one(tmp_path):
    killed = (
        "import os, signal, sys; from pathlib import Path; from experiments.data.fetch import place\n"
        "def fill(folder):\n"
        "    (folder / 'half').write_bytes(bytes(1000))\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "place(Path(sys.argv[1]), fill)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", killed, tmp_path / "set"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL
    assert len(list(tmp_path.glob(".set-*/set/half"))) == 1
    place(tmp_path / "set", lambda folder: (folder / "whole").touch())
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == ["set", "set/whole"]


@pytest.mark.parametrize("name", LAYOUTS)
def test_an_absent_set_is_downloaded_once(tmp_path, monkeypatch, capsys, site, name):
    site.files["set.tar.gz"] = archive = archive_of(name)
    publish(monkeypatch, name, f"{site.address}/set.tar.gz", archive)
    root = tmp_path / "new"
    first = loaded(config(name, root, download=True))
    second = loaded(config(name, root))
    assert site.requests == ["set.tar.gz"]
    assert "set.tar.gz" in capsys.readouterr().err  # the progress bar
    assert [path.name for path in root.iterdir()] == [FOLDERS[name]]
    assert {path.name: path.read_bytes() for path in (root / FOLDERS[name]).iterdir()} == cifar_files(name)
    np.testing.assert_array_equal(first.train_inputs, second.train_inputs)


def test_jobs_side_by_side_download_once(tmp_path, monkeypatch, site):
    site.files["set.tar.gz"] = archive = archive_of("cifar10")
    publish(monkeypatch, "cifar10", f"{site.address}/set.tar.gz", archive)
    with ThreadPoolExecutor(4) as pool:
        sets = list(pool.map(loaded, [config("cifar10", tmp_path, download=True)] * 4))
    assert [len(data.train_labels) for data in sets] == [20] * 4
    assert site.requests == ["set.tar.gz"]


@pytest.mark.parametrize("root_exists", [False, True])
@pytest.mark.parametrize("failure", ["absent", "broken off", "wrong checksum", "no server"])
def test_a_failed_download_leaves_nothing_and_says_what_to_put_where(
    tmp_path, monkeypatch, site, failure, root_exists
):
    archive = archive_of("cifar10")
    url = f"{site.address}/set.tar.gz"
    publish(monkeypatch, "cifar10", url, archive)
    if failure == "broken off":
        site.files["set.tar.gz"], site.keeps = archive, 1000
        reason = f"broke off after 1000 of {len(archive)} bytes"
    elif failure == "wrong checksum":
        site.files["set.tar.gz"] = archive_of("cifar10", other=b"x")
        reason = f"the published file {hashlib.md5(archive).hexdigest()}"
    elif failure == "no server":
        publish(monkeypatch, "cifar10", url := "http://127.0.0.1:1/set.tar.gz", archive)
        reason = "Connection refused"
    else:
        reason = "404"
    root = tmp_path / "root"
    if root_exists:
        root.mkdir()
    line = error_line(config("cifar10", root, download=True))
    assert all(
        part in line for part in [f"data.root={root}", reason, url, "put the folder cifar-10-batches-bin"]
    )
    assert root.exists() == root_exists
    assert not root_exists or list(root.iterdir()) == []


@pytest.mark.parametrize("name", LAYOUTS)
def test_an_archive_in_the_root_needs_no_network(tmp_path, monkeypatch, name):
    archive = archive_of(name, **{"../../outside.bin": b"x", "batches.meta.txt": b"x"})
    publish(monkeypatch, name, "http://127.0.0.1:1/set.tar.gz", archive)
    root = tmp_path / "a" / "root"
    root.mkdir(parents=True)
    (root / "set.tar.gz").write_bytes(archive)
    assert len(loaded(config(name, root)).train_labels) == 20
    assert {path.name for path in root.iterdir()} == {"set.tar.gz", FOLDERS[name]}
    assert {path.name for path in (root / FOLDERS[name]).iterdir()} == set(cifar_files(name))
    assert [path.name for path in tmp_path.rglob("*outside*")] == []


def test_an_archive_that_is_not_the_published_one_is_refused(tmp_path):
    (tmp_path / "cifar-10-binary.tar.gz").write_bytes(archive_of("cifar10"))
    line = error_line(config("cifar10", tmp_path, download=True))
    assert "cifar-10-binary.tar.gz has md5" in line
    assert "the published file c32a1d4ab5d03f1284b67883e8d87530; put" in line
    assert [path.name for path in tmp_path.iterdir()] == ["cifar-10-binary.tar.gz"]


@pytest.mark.parametrize("name", FOLDERS)
def test_a_root_that_is_no_folder_is_refused(tmp_path, monkeypatch, name):
    (tmp_path / "file").write_text("not a folder")
    line = error_line(config(name, tmp_path / "file", download=True))
    assert all(part in line for part in [f"data.root={tmp_path / 'file'}", "File exists", "put"])


def test_fashion_mnist_is_downloaded_as_a_whole_or_not_at_all(tmp_path, monkeypatch, site):
    write_fashion(tmp_path / "published")
    site.files = {path.name: path.read_bytes() for path in (tmp_path / "published").iterdir()}
    monkeypatch.setattr(fashion_mnist, "ADDRESS", site.address)
    checksums = {name: hashlib.md5(site.files[name]).hexdigest() for name in fashion_mnist.CHECKSUMS}
    monkeypatch.setattr(fashion_mnist, "CHECKSUMS", checksums)
    settings = config("fashion_mnist", tmp_path / "root", download=True)

    last = site.files.pop("t10k-labels-idx1-ubyte.gz")
    line = error_line(settings)
    assert all(
        part in line
        for part in ["t10k-labels-idx1-ubyte.gz failed", "404", "apt install dataset-fashion-mnist"]
    )
    assert not (tmp_path / "root").exists()

    site.files["t10k-labels-idx1-ubyte.gz"] = last
    assert len(loaded(settings).train_labels) == 30
    assert [path.name for path in (tmp_path / "root").iterdir()] == ["fashion-mnist"]


def test_an_interrupted_fill_leaves_nothing(tmp_path):
    def fill(folder: Path) -> None:
        (folder / "half").write_text("done")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        place(tmp_path / "root" / "set", fill)
    assert list(tmp_path.iterdir()) == []
