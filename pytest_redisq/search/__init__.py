"""Looks for missing messages in the keys of a namespace, and makes the leases there run out."""

from pytest_redisq.search.bound_evidence import BoundEvidence, KeptBack, RemovedMessages
from pytest_redisq.search.entry_watch import EntryWatch
from pytest_redisq.search.key_reader import SearchLimits
from pytest_redisq.search.late_groups import late_group_notes
from pytest_redisq.search.message_finder import BodyReader, FindMessages, marked_messages, messages_by_reader
from pytest_redisq.search.namespace_search import NamespaceSearch, SearchResult, in_words
from pytest_redisq.search.timers import LEASES_SECONDS
from pytest_redisq.search.trimming import TrimWatch, declared_bound, kept_back_doubt, trimmed_ids, trimmed_messages

__all__ = [
    "LEASES_SECONDS",
    "BodyReader",
    "BoundEvidence",
    "EntryWatch",
    "FindMessages",
    "KeptBack",
    "NamespaceSearch",
    "RemovedMessages",
    "SearchLimits",
    "SearchResult",
    "TrimWatch",
    "declared_bound",
    "in_words",
    "kept_back_doubt",
    "late_group_notes",
    "marked_messages",
    "messages_by_reader",
    "trimmed_ids",
    "trimmed_messages",
]
