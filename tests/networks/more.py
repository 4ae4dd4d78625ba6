"""More networks for the importer alone; operators need not cope with them."""

from tests.networks import queries, records, relative
from tests.networks.fixture import Fixture

MORE: dict[str, Fixture] = relative.NETWORKS | queries.NETWORKS | records.NETWORKS
