"""What looks like personal data or a secret and is none. Some of it is other texts' daily bread: code, tables, logs."""

import pytest

from finetune.data.privacy import find
from tests.unit.data.privacy.test_hits import DRAWN, HEX, drawn, token
