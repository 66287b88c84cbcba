"""Decode compressed slices in a process of their own, which damaged data may bring down.

The C++ libraries behind JPEG end or hang the whole process on some damaged streams. Run as a
program: takes a JSON list of files on the standard input and answers each, in order, with a line
of JSON: {"dtype", "shape"} and then the stored pixels, or {"error"}.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from threading import Timer

import numpy as np
import pydicom
from pydicom.pixels import pixel_array

# One library, whose failures were looked at: another one never ends on a JPEG-LS frame cut short.
DECODER = "gdcm"


class DecodingError(Exception):
    """What happened, in words that quote nothing of the input."""


def decode_frames(files: Sequence[str], limit_s: float) -> Iterator[np.ndarray]:
    """The stored pixels of each file, (Y, X), in order.

    Raises DecodingError for a slice that cannot be decoded, for a decoder that died, and after
    ``limit_s`` for the whole list.
    """
    # -P: this file's folder must not come before the standard library.
    command = [sys.executable, "-P", "-W", "ignore", __file__]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        watch = Timer(limit_s, process.kill)
        watch.start()
        try:
            with suppress(BrokenPipeError):  # a decoder that died early answers nothing
                process.stdin.write(json.dumps(list(files)).encode())
                process.stdin.close()
            for _ in files:
                line = process.stdout.readline()
                answer = json.loads(line) if line.endswith(b"\n") else {}
                if "error" in answer:
                    raise DecodingError(answer["error"])
                size = np.dtype(answer.get("dtype", "u1")).itemsize
                expected = math.prod(answer.get("shape", ())) * size
                content = process.stdout.read(expected) if answer else b""
                if not answer or len(content) != expected:
                    raise DecodingError(f"the decoder died or took longer than {limit_s:g} s")
                yield np.frombuffer(content, answer["dtype"]).reshape(answer["shape"])
        finally:
            watch.cancel()
            process.kill()


def main() -> None:
    for file in json.load(sys.stdin):
        try:
            dataset = pydicom.dcmread(file, force=True)
            frame = pixel_array(dataset, raw=True, decoding_plugin=DECODER)
        except Exception as error:  # decoders fail in their own ways
            print(json.dumps({"error": type(error).__name__}), flush=True)
        else:
            told = {"dtype": frame.dtype.str, "shape": frame.shape}
            print(json.dumps(told), flush=True)
            sys.stdout.buffer.write(frame.tobytes())
            sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
