"""Policies, tenants, watches and audit trails: changed while they are being used."""
