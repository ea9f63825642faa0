"""Tests of what is written in C."""

import os
import shutil
import sys

import pytest

HAS_COMPILER = sys.platform == "linux" and shutil.which(os.environ.get("CC", "cc")) is not None
needs_compiler = pytest.mark.skipif(not HAS_COMPILER, reason="no C compiler on this machine")
