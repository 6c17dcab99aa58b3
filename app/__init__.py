"""The reference service: threads, documents and agent runs of many users, kept apart.

``app.main.create_app`` builds it. Nothing is connected, started or shared at import.
"""
