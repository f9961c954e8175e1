"""Parses RESP2 and RESP3 in both directions without IO: bytes in, whole frames out, each with its exact bytes.

Laws, for every way of splitting the stream into chunks:

- The frames are the same.
- The `raw` bytes of all frames, joined, are the stream without its incomplete end. So a frame can be forwarded as is.
- Everything from the first malformed byte on is one `UnparsedBytes`. Forward it as is: the receiver then sees and
  answers exactly what was sent.
"""

from pytest_redisq.resp.grammar import MAX_BULK_BYTES, MAX_ELEMENTS, MAX_LINE_BYTES, UnparsedBytes
from pytest_redisq.resp.reply_parser import Reply, ReplyParser
from pytest_redisq.resp.reply_values import ReplyError, Value, decode_reply
from pytest_redisq.resp.request_parser import Request, RequestParser, encode_command
from pytest_redisq.resp.traits import TRIM_COMMANDS, Trait, traits_of

__all__ = [
    "MAX_BULK_BYTES",
    "MAX_ELEMENTS",
    "MAX_LINE_BYTES",
    "TRIM_COMMANDS",
    "Reply",
    "ReplyError",
    "ReplyParser",
    "Request",
    "RequestParser",
    "Trait",
    "UnparsedBytes",
    "Value",
    "decode_reply",
    "encode_command",
    "traits_of",
]
