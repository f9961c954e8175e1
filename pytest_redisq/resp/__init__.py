"""Parsing of RESP2 and RESP3 in both directions without IO: bytes in, whole frames out, each with its exact bytes.

Laws, however the stream is split into chunks:

- the frames are the same;
- the `raw` bytes of all frames, joined, are the stream without its incomplete end, so a frame can be forwarded as is;
- from the first byte that no server or client would understand, everything is one `UnparsedBytes`. Forward it as is,
  so that the other side sees (and answers) exactly what was sent.
"""

from pytest_redisq.resp.grammar import MAX_BULK_BYTES, MAX_ELEMENTS, MAX_LINE_BYTES, UnparsedBytes
from pytest_redisq.resp.reply_parser import Reply, ReplyParser
from pytest_redisq.resp.reply_values import ReplyError, Value, decode_reply
from pytest_redisq.resp.request_parser import Request, RequestParser, encode_command

__all__ = [
    "MAX_BULK_BYTES",
    "MAX_ELEMENTS",
    "MAX_LINE_BYTES",
    "Reply",
    "ReplyError",
    "ReplyParser",
    "Request",
    "RequestParser",
    "UnparsedBytes",
    "Value",
    "decode_reply",
    "encode_command",
]
