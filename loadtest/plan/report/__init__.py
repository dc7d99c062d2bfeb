"""The plan's page: one HTML file for people, with its plots inside and nothing from elsewhere."""
