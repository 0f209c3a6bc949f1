"""A transport for features of CPU tensors needs functions of SGLang's internals; an entry point would need four.

    python sglang_transport.py      # in SGLang's environment, some seconds, no server

Lists what a transport has to wrap today, then shows the proposed interface at work on a real request: an example
transport, found by name, carries its features through SGLang's msgpack and pickle and across a process that does not
read them, without a name in /dev/shm. Exits with 1 when a function is not there any more.
"""

import os
import pickle
import pkgutil
from multiprocessing import resource_tracker
from pathlib import Path
from unittest.mock import patch

import msgspec
import torch
from sglang.srt.managers import mm_utils
from sglang.srt.managers.io_struct import TokenizedGenerateReqInput
from sglang.srt.managers.schedule_batch import Modality, MultimodalDataItem, MultimodalProcessorOutput
from sglang.srt.utils.msgpack_utils import enc_hook, ext_hook

SRT = "sglang.srt"
WRAPPED_TODAY = {
    f"{SRT}.managers.tokenizer_manager.TokenizerManager.__init__": "prepare a tokenizer process",
    f"{SRT}.managers.tokenizer_manager.TokenizerManager._tokenize_one_request": "write features off the event loop",
    f"{SRT}.managers.tokenizer_manager.TokenizerManager._dispatch_to_scheduler": "lease, or revoke when sending fails",
    f"{SRT}.managers.scheduler.Scheduler.__init__": "prepare a rank",
    f"{SRT}.managers.scheduler_components.request_receiver.SchedulerRequestReceiver._finalize_shm_features": "open",
    f"{SRT}.managers.mm_utils.ShmPointerMMData.__setstate__": "receive without a named segment",
    f"{SRT}.managers.mm_utils.ShmPointerMMData.materialize": "open",
    f"{SRT}.managers.mm_utils.ShmPointerMMData.close_and_unlink": "release",
}


class FeatureTransport:
    """The proposed interface: entry points of the group `sglang.mm_feature_transports`.

    `--mm-feature-transport plugin:NAME` picks one. A handle is bytes, so the wire format knows no transport by class.
    """

    def prepare(self, server_args, role):
        """Before the first message, in the launcher, each tokenizer and each rank. Raises what ends the start."""

    def wrap(self, tensor):
        """A handle of the tensor's features for one message, or None: SGLang's own way. Not on the event loop."""
        raise NotImplementedError

    def open(self, handle, shape, dtype):
        """On a rank: the tensor. Never opened by a process that only passes messages on."""
        raise NotImplementedError

    def release(self, handle):
        """The message was not sent, or is not going to be opened."""
        raise NotImplementedError


class Example(FeatureTransport):
    """Memory without a name, found through its owner's descriptor."""

    def wrap(self, tensor):
        fd = os.memfd_create("features", os.MFD_CLOEXEC)
        os.write(fd, tensor.contiguous().view(torch.uint8).numpy().tobytes())
        return f"{os.getpid()}:{fd}".encode()

    def open(self, handle, shape, dtype):
        with open(self._path(handle), "rb") as file:
            return torch.frombuffer(bytearray(file.read()), dtype=dtype).reshape(shape)

    def release(self, handle):
        os.close(int(handle.partition(b":")[2]))

    @staticmethod
    def _path(handle):
        pid, _, fd = handle.decode().partition(":")
        return f"/proc/{pid}/fd/{fd}"


REGISTRY = {"example": Example()}
"""What SGLang would read from entry points."""


class Pointer(mm_utils.ShmPointerMMData):
    """The pointer that travels. In SGLang this would be the class itself, with one field more."""

    def __init__(self, tensor, precomputed_hash=None, transport="example"):
        self.handle = REGISTRY[transport].wrap(tensor)
        self.shm_name, self.shape, self.dtype = f"plugin:{transport}:{self.handle.decode()}", tensor.shape, tensor.dtype
        self.precomputed_hash = precomputed_hash
        self._shm_handle = self.tensor = self._materialization_error = None

    def __setstate__(self, state):
        vars(self).update(state, _shm_handle=None, tensor=None, _materialization_error=None)

    def materialize(self):
        _, transport, handle = self.shm_name.split(":", 2)
        try:
            return REGISTRY[transport].open(handle.encode(), self.shape, self.dtype)
        finally:
            self.close_and_unlink()

    def close_and_unlink(self):
        _, transport, handle = self.shm_name.split(":", 2)
        REGISTRY[transport].release(handle.encode())


Pointer.__name__ = Pointer.__qualname__ = "ShmPointerMMData"
Pointer.__module__ = mm_utils.__name__


def request(feature):
    """A tokenised request with one image."""
    fields = {field.name: None for field in msgspec.structs.fields(TokenizedGenerateReqInput) if field.required}
    item = MultimodalDataItem(modality=Modality.IMAGE, feature=feature, model_specific_data={})
    return TokenizedGenerateReqInput(**fields | {"rid": "r", "mm_inputs": MultimodalProcessorOutput(mm_items=[item])})


def main():
    """Exit code 0: all is there, and the example carried the features."""
    missing = 0
    for target, what in WRAPPED_TODAY.items():
        try:
            pkgutil.resolve_name(target)
        except (ImportError, AttributeError):
            missing += 1
            what = "MISSING"
        print(f"{target.removeprefix(SRT + '.'):95} {what}")
    segments = set(Path("/dev/shm").iterdir())
    source = torch.arange(12, dtype=torch.bfloat16).reshape(3, 4)
    with (
        patch.object(mm_utils, "ShmPointerMMData", Pointer),
        patch.object(mm_utils, "_get_is_default_transport", return_value=False),
        patch.object(mm_utils, "get_serving", return_value=type("Serving", (), {"skip_tokenizer_init": False})),
        patch.object(resource_tracker, "register", side_effect=AssertionError("a named segment")),
    ):
        sent = mm_utils.wrap_shm_features(request(source)).mm_inputs.mm_items[0].feature
        passed = msgspec.msgpack.decode(msgspec.msgpack.encode([sent], enc_hook=enc_hook), ext_hook=ext_hook)
        arrived = request(pickle.loads(pickle.dumps(passed))[0])
        mm_utils.unwrap_shm_features(arrived)
    same = torch.equal(arrived.mm_inputs.mm_items[0].feature, source)
    left = set(Path("/dev/shm").iterdir()) - segments
    print(
        f"by the proposed interface: {'the same features' if same else 'OTHER features'}, {len(left)} names in /dev/shm"
    )
    return 0 if same and not left and not missing else 1


if __name__ == "__main__":
    raise SystemExit(main())
