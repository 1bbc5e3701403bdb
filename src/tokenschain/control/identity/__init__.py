"""Users, roles, API keys, organization, single sign-on."""
