"""Locust users of both doors, closed and open loop; loadtest/locustfile.py puts them together."""
