"""Where members are: coordinates of Chinese cities, and how far apart they are.

Coordinates are of the urban centre, in degrees north and east (WGS-84), to two decimals (about 1 km): public
geographic knowledge, compared with several public map data sets, which differ among themselves in the second decimal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import radians, sqrt
from types import MappingProxyType
from typing import Final, NamedTuple

from tradebft.network.elementary import asin, cos, sin

__all__ = ["CITIES", "GUIZHOU", "City", "distance_km", "placement"]

EARTH_RADIUS_KM: Final = 6371.009
"""Mean radius of the Earth (IUGG)."""


class City(NamedTuple):
    """Latitude (degrees north) and longitude (degrees east) of a city's centre."""

    latitude: float
    longitude: float


CITIES: Final = MappingProxyType(
    {
        # Guizhou: the seats of its nine prefectures. Xingyi is Qianxinan's, Kaili Qiandongnan's, Duyun Qiannan's.
        "Guiyang": City(26.65, 106.63),
        "Zunyi": City(27.73, 106.93),
        "Liupanshui": City(26.59, 104.83),
        "Anshun": City(26.25, 105.95),
        "Bijie": City(27.30, 105.29),
        "Tongren": City(27.72, 109.19),
        "Xingyi": City(25.09, 104.90),
        "Kaili": City(26.58, 107.98),
        "Duyun": City(26.26, 107.52),
        # municipalities, seats of provinces and regions
        "Beijing": City(39.90, 116.41),
        "Changchun": City(43.82, 125.32),
        "Changsha": City(28.23, 112.94),
        "Chengdu": City(30.57, 104.07),
        "Chongqing": City(29.56, 106.55),
        "Fuzhou": City(26.07, 119.30),
        "Guangzhou": City(23.13, 113.26),
        "Haikou": City(20.04, 110.32),
        "Hangzhou": City(30.27, 120.16),
        "Harbin": City(45.80, 126.53),
        "Hefei": City(31.82, 117.23),
        "Hohhot": City(40.84, 111.75),
        "Hong Kong": City(22.28, 114.16),
        "Jinan": City(36.65, 117.12),
        "Kunming": City(25.04, 102.72),
        "Lanzhou": City(36.06, 103.83),
        "Lhasa": City(29.65, 91.14),
        "Macau": City(22.20, 113.54),
        "Nanchang": City(28.68, 115.86),
        "Nanjing": City(32.06, 118.80),
        "Nanning": City(22.82, 108.37),
        "Shanghai": City(31.23, 121.47),
        "Shenyang": City(41.81, 123.43),
        "Shijiazhuang": City(38.04, 114.51),
        "Taipei": City(25.03, 121.57),
        "Taiyuan": City(37.87, 112.55),
        "Tianjin": City(39.09, 117.20),
        "Urumqi": City(43.83, 87.62),
        "Wuhan": City(30.59, 114.31),
        "Xi'an": City(34.34, 108.94),
        "Xining": City(36.62, 101.78),
        "Yinchuan": City(38.49, 106.23),
        "Zhengzhou": City(34.75, 113.63),
        # other cities of trade and finance
        "Dalian": City(38.91, 121.61),
        "Dongguan": City(23.02, 113.75),
        "Foshan": City(23.02, 113.12),
        "Ningbo": City(29.87, 121.54),
        "Qingdao": City(36.07, 120.38),
        "Shenzhen": City(22.54, 114.06),
        "Suzhou": City(31.30, 120.58),
        "Wuxi": City(31.49, 120.31),
        "Xiamen": City(24.48, 118.09),
        "Zhuhai": City(22.27, 113.58),
    }
)
"""City name -> coordinates."""

GUIZHOU: Final = ("Guiyang", "Zunyi", "Liupanshui", "Anshun", "Bijie", "Tongren", "Xingyi", "Kaili", "Duyun")
"""The seats of Guizhou's nine prefectures, the capital first."""

_AT_THE_CAPITAL: Final = frozenset({"administrator", "policy_bank"})


def distance_km(a: str, b: str) -> float:
    """Great-circle distance between two cities by name, in kilometres. KeyError for a city nobody knows."""
    (lat_a, lon_a), (lat_b, lon_b) = CITIES[a], CITIES[b]
    rise = sin(radians(lat_b - lat_a) / 2)
    turn = sin(radians(lon_b - lon_a) / 2)
    half_chord = rise * rise + cos(radians(lat_a)) * cos(radians(lat_b)) * (turn * turn)
    return 2 * EARTH_RADIUS_KM * asin(sqrt(half_chord))


def placement(names: Sequence[str], places: Mapping[str, str] = MappingProxyType({})) -> list[str]:
    """The city of each replica, given their names in consensus order.

    `places` maps a name, or `replica.N` for the N-th, to a city. Who is not in it: the administrator and the policy
    bank are in Guiyang, the others in Guizhou's prefectures in turn, Zunyi first.

    Raises:
        ValueError: `places` names a node or a city that does not exist.
    """
    chosen = dict(places)
    cities = []
    others = 0
    for position, name in enumerate(names):
        default = GUIZHOU[0]
        if name not in _AT_THE_CAPITAL:
            others += 1
            default = GUIZHOU[others % len(GUIZHOU)]
        alias = chosen.pop(f"replica.{position}", default)
        city = chosen.pop(name, alias)
        if city not in CITIES:
            raise ValueError(f"places: {name} is in {city!r}, which is not among the known cities")
        cities.append(city)
    if chosen:
        raise ValueError(f"places: {next(iter(chosen))!r} is none of the {len(names)} replicas")
    return cities
