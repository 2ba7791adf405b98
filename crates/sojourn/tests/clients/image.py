"""Writes an image archive with a busybox: image.py FORM COMPRESSION FILE BUSYBOX [layer|MOTD]

FORM is oci or docker; COMPRESSION of the layers is none, gzip or zstd. "layer" damages one after its digest was
taken; any other word stands in /etc/motd.
"""

import gzip
import hashlib
import io
import json
import subprocess
import sys
import tarfile

form, compression, target, busybox = sys.argv[1:5]
damage = sys.argv[5:] == ["layer"]
motd = "from the upper layer" if damage else (sys.argv[5:] or ["from the upper layer"])[0]


def layer(entries):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, kind, data, uid, mode in entries:
            info = tarfile.TarInfo(name)
            info.type, info.uid, info.gid, info.mode, info.mtime = kind, uid, uid, mode, 1_600_000_000
            if kind == tarfile.REGTYPE:
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
            else:
                info.linkname = data
                tar.addfile(info)
    return out.getvalue()


def sha(data):
    return hashlib.sha256(data).hexdigest()


FILE, DIR, LINK, HARD, DEVICE = (
    tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE)
program = open(busybox, "rb").read()
names = "sh cat ls stat id env rm echo test touch hostname wc readlink".split()
lower = layer(
    [(name, DIR, "", 0, 0o755) for name in ("bin", "etc", "root", "srv", "home", "home/anna", "old")]
    + [("bin/busybox", FILE, program, 0, 0o4755)]
    + [("bin/" + name, LINK, "busybox", 0, 0o777) for name in names]
    + [
        ("etc/passwd", FILE, b"root:x:0:0::/root:/bin/sh\nanna:x:1000:1000::/home/anna:/bin/sh\n", 0, 0o644),
        ("home/anna/mine", FILE, b"hers\n", 1000, 0o600),
        ("srv/last", FILE, b"", 65535, 0o644),
        ("srv/beyond", FILE, b"", 70000, 0o644),
        ("srv/gone", FILE, b"", 0, 0o644),
        ("old/x", FILE, b"", 0, 0o644),
        ("dev/sda", DEVICE, "", 0, 0o666),
    ]
)
upper = layer([
    ("etc/motd", FILE, motd.encode() + b"\n", 0, 0o644),
    ("srv/.wh.gone", FILE, b"", 0, 0o644),
    ("old", DIR, "", 0, 0o755),
    ("old/.wh..wh..opq", FILE, b"", 0, 0o644),
    ("old/y", FILE, b"", 0, 0o644),
    ("srv/same", HARD, "home/anna/mine", 0, 0o600),
])
layers = [lower, upper]
machine = {"x86_64": "amd64", "aarch64": "arm64"}[__import__("platform").machine()]
config = json.dumps({
    "architecture": machine,
    "os": "linux",
    "config": {"Env": ["PATH=/bin", "FROM_IMAGE=yes", "OVERRIDDEN=image"]},
    "rootfs": {"type": "layers", "diff_ids": ["sha256:" + sha(data) for data in layers]},
}).encode()
if damage:
    layers[0] = lower.replace(b"hers\n", b"his!\n")
compress = {
    "none": lambda data: data,
    "gzip": lambda data: gzip.compress(data, mtime=0),
    "zstd": lambda data: subprocess.run(["zstd", "-q"], input=data, capture_output=True, check=True).stdout,
}[compression]
suffix = {"none": "", "gzip": "+gzip", "zstd": "+zstd"}[compression]

with tarfile.open(target, "w") as tar:
    def add(name, data):
        info = tarfile.TarInfo(name)
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))

    if form == "oci":
        def blob(media, data):
            add("blobs/sha256/" + sha(data), data)
            return {"mediaType": media, "digest": "sha256:" + sha(data), "size": len(data)}
        kind = "application/vnd.oci.image."
        manifest = json.dumps({
            "schemaVersion": 2,
            "config": blob(kind + "config.v1+json", config),
            "layers": [blob(kind + "layer.v1.tar" + suffix, compress(data)) for data in layers],
        }).encode()
        add("oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
        index = {"schemaVersion": 2, "manifests": [blob(kind + "manifest.v1+json", manifest)]}
        add("index.json", json.dumps(index).encode())
    else:
        for number, data in enumerate(layers):
            add(f"{number}/layer.tar", compress(data))
        add(sha(config) + ".json", config)
        add("manifest.json", json.dumps([{
            "Config": sha(config) + ".json",
            "RepoTags": ["test:latest"],
            "Layers": [f"{number}/layer.tar" for number in range(len(layers))],
        }]).encode())
