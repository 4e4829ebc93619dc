"""What the servers run. Beside site.py, which cannot be imported before Django is set up."""

from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application

wsgi = get_wsgi_application()
asgi = get_asgi_application()
