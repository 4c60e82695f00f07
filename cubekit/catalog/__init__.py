"""Catalogues: which items there are, what is true of them, and how to reach their files.

A catalogue is an endpoint (STAC API) or a file (item collection) plus a profile per collection. `open_catalog` makes one, `Catalog.search`
answers with `Item`, `Catalog.sign` makes an href readable when it is needed.
"""

from cubekit.catalog._catalog import Catalog
from cubekit.catalog._geometry import Area
from cubekit.catalog._hrefs import RefusedHrefError
from cubekit.catalog._model import Asset, Item, OffsetDecision
from cubekit.catalog._open import CatalogChain, open_catalog
from cubekit.catalog._options import ApiOptions
from cubekit.catalog._profile import BandRule, Profile
from cubekit.catalog._question import Moment
from cubekit.catalog._signing import Signer
from cubekit.catalog._tables import ENDPOINTS, PROFILES, Endpoint, known_profile
from cubekit.catalog._userprofile import ProfileSpec

__all__ = [
    "ENDPOINTS",
    "PROFILES",
    "ApiOptions",
    "Area",
    "Asset",
    "BandRule",
    "Catalog",
    "CatalogChain",
    "Endpoint",
    "Item",
    "Moment",
    "OffsetDecision",
    "Profile",
    "ProfileSpec",
    "RefusedHrefError",
    "Signer",
    "known_profile",
    "open_catalog",
]
