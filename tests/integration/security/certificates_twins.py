"""Twins of the certificates: each lacks the exchange as a whole."""

from app.security import Certificates


class InPlace(Certificates):
    """Loads the files into the context that is in use, as ``load_cert_chain`` invites.

    OpenSSL takes the certificate first. When the key does not fit it, because only one
    of the files has been written yet, the old key is gone and nothing is shown at all.
    """

    def reload(self) -> bool:
        found = self._read()
        if found == self._seen:
            return False
        self._seen = found
        self._current.load_cert_chain(self._certificate, self._key)
        return True
