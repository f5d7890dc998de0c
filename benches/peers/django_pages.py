"""Django's list of the runs in DATABASE_URL, behind its login: `ready: URL COOKIE` once it answers. Wants PORT.

As its documentation has it: a ListView with a Paginator, LoginRequiredMixin, sessions in the database, connections that stay open.
Two of gunicorn's processes with two threads each. Its own tables are in a schema of their own.
"""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from urllib.parse import unquote, urlsplit

import django
from django.conf import settings
from django.db import connection, models
from django.template import engines
from django.urls import path

URL = urlsplit(os.environ["DATABASE_URL"])
settings.configure(
    ALLOWED_HOSTS=["127.0.0.1"],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": URL.path[1:],
            "USER": URL.username,
            "PASSWORD": unquote(URL.password or ""),
            "HOST": URL.hostname,
            "PORT": URL.port,
            "CONN_MAX_AGE": None,
            "OPTIONS": {"options": "-c search_path=django,public"},
        }
    },
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions"],
    LOGIN_URL="/login/",
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.middleware.clickjacking.XFrameOptionsMiddleware",
    ],
    ROOT_URLCONF=__name__,
    SECRET_KEY="only on loopback, for a bench",
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
    USE_TZ=True,
)
django.setup()

from django.contrib.auth.mixins import LoginRequiredMixin  # noqa: E402 it wants the settings
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.http import HttpResponse  # noqa: E402
from django.views.generic import ListView  # noqa: E402

PAGE = """<!doctype html><html lang="en"><title>Runs</title><h1>{{ paginator.count }} runs</h1>
<table><thead><tr><th>Run<th>Title<th>State<th>Outcome<th>Worker<th>Asked by<th>Asked<th>Cost</tr></thead><tbody>
{% for run in page_obj %}<tr class="run"><td>{{ run.id }}<td><a href="/runs/{{ run.id }}">{{ run.title }}</a><td>{{ run.state }}
<td>{{ run.outcome|default_if_none:"" }}<td>{{ run.worker|default_if_none:"" }}<td>{{ run.asked_by_name }}<td>{{ run.asked_at|timesince }}
<td>{{ run.cost_usd|floatformat:2 }}</tr>
{% endfor %}</tbody></table>
<p>Page {{ page_obj.number }} of {{ paginator.num_pages }}
{% if page_obj.has_previous %}<a href="?page={{ page_obj.previous_page_number }}">Newer</a>{% endif %}
{% if page_obj.has_next %}<a href="?page={{ page_obj.next_page_number }}">Older</a>{% endif %}"""


class Run(models.Model):
    """The columns that are shown."""

    id = models.BigIntegerField(primary_key=True)
    title = models.TextField()
    state = models.TextField()
    outcome = models.TextField(null=True)
    worker = models.TextField(null=True)
    asked_by_name = models.TextField()
    asked_at = models.DateTimeField()
    cost_usd = models.FloatField(null=True)

    class Meta:
        app_label = "bench"
        db_table = "runs"
        managed = False
        ordering = ["-id"]


class Runs(LoginRequiredMixin, ListView):
    """Fifty a page, as many as our own."""

    model = Run
    paginate_by = 50

    def render_to_response(self, context):
        return HttpResponse(PAGE_TEMPLATE.render(context, self.request))


PAGE_TEMPLATE = engines["django"].from_string(PAGE)
urlpatterns = [path("", Runs.as_view())]
application = get_wsgi_application()


def sign_in():
    """Makes the tables of its login, and a user who is signed in: gives the cookie."""
    from django.contrib.auth.models import User
    from django.core.management import call_command
    from django.test import Client

    with connection.cursor() as cursor:
        cursor.execute("create schema if not exists django")
    call_command("migrate", verbosity=0)
    client = Client()
    client.force_login(User.objects.create_superuser("bench"))
    return f"sessionid={client.cookies['sessionid'].value}"


def main():
    cookie = sign_in()
    connection.close()
    url = f"http://127.0.0.1:{os.environ['PORT']}"
    command = [sys.executable, "-m", "gunicorn", "--bind", url[7:], "--workers", "2", "--threads", "2", "--keep-alive", "60"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "preexec_fn": os.setpgrp}
    served = subprocess.Popen([*command, "django_pages:application"], **quiet)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(urllib.request.Request(url, headers={"cookie": cookie}), timeout=30).close()
                break
            except OSError:
                assert time.monotonic() < deadline, "Django doesn't answer"
                time.sleep(0.2)
        print(f"ready: {url} {cookie}", flush=True)
        sys.stdin.read()
    finally:
        os.killpg(served.pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
