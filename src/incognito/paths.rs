//! Doors that such a dashboard would have, ours and other people's, and the spellings that have opened guarded ones.

/// Pages and actions as a control room would name them, and what frameworks, servers and their neighbours leave
/// lying about.
const PLAIN: &str = r#"
    # What anybody reads first.
    / /login /healthz /manifest.webmanifest /static/app.css /static/live.js /static/icon.svg /static/
    /static /robots.txt /sitemap.xml /sitemap_index.xml /humans.txt /security.txt /.well-known/security.txt
    /.well-known/change-password /.well-known/openid-configuration /.well-known/oauth-authorization-server
    /.well-known/oauth-protected-resource /.well-known/assetlinks.json /favicon.ico /apple-touch-icon.png
    /manifest.json /site.webmanifest /browserconfig.xml /sw.js /service-worker.js /offline /feed /rss
    /rss.xml /atom.xml /index /index.html /index.php /index.json /home /main /welcome /start /about /help
    /docs /version /build /info
    # Runs, and what is done to them.
    /runs /runs/1 /runs/2 /runs/42 /runs/0 /runs/-1 /runs/9223372036854775807 /runs/new /runs/latest
    /runs/all /runs/export /runs.json /runs.csv /runs/1.json /runs/1/events /runs/1/events/1 /runs/1/stream
    /runs/1/live /runs/1/log /runs/1/logs /runs/1/output /runs/1/transcript /runs/1/prompt /runs/1/evidence
    /runs/1/audit /runs/1/cost /runs/1/terminate /runs/1/stop /runs/1/kill /runs/1/cancel /runs/1/retry
    /runs/1/restart /runs/1/delete /runs/1/fragment /runs/fragment /runs/stream /runs/live
    /runs?state=running /runs?page=2 /runs?before=100 /?state=running /?before=100 /?state=unconfirmed
    /run/1 /run /executions /executions/1 /jobs /jobs/1 /tasks /tasks/1 /sessions /sessions/1 /terminate
    /stop /kill /killswitch /stop-all /events /events/1 /event /live /stream /sse /ws /websocket /socket.io/
    /socket /updates /notifications /notices /poll
    # The other pages.
    /workers /workers/1 /workers/dev /workers/fragment /worker /hosts /nodes /queue /queues /health
    /health/fragment /health/live /health/ready /healthcheck /health_check /health.json /livez /readyz
    /ready /status /status.json /ping /up /agents /agents/1 /agents/new /agents/claude-code
    /agents/claude-code/edit /agent /recipes /mcp /mcp/1 /mcp/servers /mcp/new /mcp/tools /servers /tools
    /images /models /costs /cost /usage /billing /budget /limits /audit /audit/1 /audit.csv /audit.json
    /audit?before=100 /log /logs /logs/1 /history /activity /account /account/password /account/sessions
    /account/passkeys /account/tokens /profile /me /whoami /user /users /users/1 /users/new /users.json
    /people /team /roles /permissions /invite /invites /register /signup /sign-up /signin /sign-in /logout
    /signout /auth /auth/login /auth/callback /oauth /oauth/token /oauth/authorize /oauth2/token /token
    /tokens /sso /saml /password /password/reset /password/forgot /forgot /reset /setup /install /onboarding
    /settings /settings/users /settings/keys /config /configuration /preferences /keys /api-keys /apikeys
    /secrets /credentials /vault /env /environment /search /search?q=a /export /import /download /downloads
    /upload /uploads /files /file /backup /backups /dump /reports /report /charts /stats /statistics
    /analytics /overview /dashboard /dashboards /console /control /panel /terminal /shell /exec /run-command
    /cron /schedule /schedules /triggers /hooks /webhook /webhooks /webhooks/github /callback /proxy
    /proxy?url=http://127.0.0.1/ /gate /gateway /v1/messages /v1/models /v1/complete
    # Doors for the owner.
    /admin /admin/ /admin/login /admin/runs /admin/users /admin/dashboard /admin/password /admin/settings
    /admin/logs /admin/health /admin.php /administrator /superadmin /superuser /superuser/runs /super /root
    /staff /manage /manager /manager/html /management /internal /internal/runs /private /secret /hidden
    /backend /backoffice /ops /sys /system /dev /test /debug /demo /staging /old /new /beta /tmp /temp
    # Interfaces for programs.
    /api /api/ /api/v1 /api/v2 /api/runs /api/runs/1 /api/runs/1/events /api/runs/1/terminate /api/v1/runs
    /api/v1/runs/1 /api/v1/agents /api/v1/workers /api/v1/users /api/executions /api/agents /api/workers
    /api/users /api/users/1 /api/me /api/health /api/status /api/audit /api/config /api/settings /api/keys
    /api/tokens /api/secrets /api/stats /api/metrics /api/events /api/stream /api/search /api/login
    /api/auth /api/auth/session /api/session /api/mcp /api/admin /api/admin/runs /api/internal /api/docs
    /api/swagger.json /api/openapi.json /api-docs /openapi.json /openapi.yaml /swagger /swagger.json
    /swagger-ui /swagger-ui.html /swagger-ui/index.html /swagger/v1/swagger.json /redoc /rapidoc /scalar
    /graphql /graphiql /graphql/schema /playground /query /rpc /jsonrpc /xmlrpc.php /soap /grpc /trpc /rest
    /rest/runs /v1 /v1/runs /v2 /json /data /data.json /db.json
    # What measures and mends.
    /metrics /metrics/prometheus /prometheus /prometheus/metrics /federate /debug/pprof /debug/pprof/
    /debug/pprof/heap /debug/pprof/cmdline /debug/pprof/goroutine /debug/vars /debug/requests /debug/events
    /debug/routes /debug/config /debug/default/view /_debug /_debugbar /__debug__/ /_profiler /profiler
    /profile/cpu /heap /threads /trace /traces /trace.axd /elmah.axd /routes /_routes /rails/info/routes
    /rails/info/properties /actuator /actuator/env /actuator/health /actuator/heapdump /actuator/mappings
    /actuator/beans /actuator/loggers /actuator/gateway/routes /jolokia /jolokia/list /hawtio /server-status
    /server-info /nginx_status /stub_status /fpm-status /haproxy?stats /_stats /_status /_health /_ping
    /_cat/indices /_cluster/health /_nodes /_all_dbs /_utils/ /_search /_next/data /_nuxt/
    /_ignition/health-check /telescope /telescope/requests /horizon /sidekiq /flower /rq /bull /resque
    /celery /airflow /jenkins /script /grafana /kibana /jaeger /zipkin /adminer.php /phpmyadmin/ /pgadmin
    /pma/ /redis /redis-commander /consul /v1/kv/?recurse /v1/sys/health /etcd /v2/keys /portainer /docker
    /containers/json /v1.41/containers/json /v1.41/info /images/json /v2/_catalog /api/v1/pods
    /api/v1/namespaces /apis /latest/meta-data/ /computeMetadata/v1/ /phpinfo.php /info.php /test.php
    /wp-admin/ /wp-login.php /wp-json/wp/v2/users /cgi-bin/ /cgi-bin/test /solr/ /struts /invoker/
    /web.config
    # Files that were never meant to be served.
    /.env /.env.local /.env.production /.env.bak /.dev/ /.dev/env /.git/config /.git/HEAD /.git/index
    /.git/logs/HEAD /.gitignore /.svn/entries /.hg/store /.DS_Store /.htaccess /.htpasswd /.npmrc /.netrc
    /.aws/credentials /.ssh/id_rsa /.ssh/authorized_keys /.docker/config.json /.kube/config
    /.claude/settings.json /.claude.json /.mcp.json /CLAUDE.md /README.md /LICENSE /Cargo.toml /Cargo.lock
    /Makefile /Dockerfile /compose.yaml /docker-compose.yml /deploy/env.example /migrations/0001_users.sql
    /src/main.rs /target/debug/signalbox /templates/base.html /templates/runs/index.html /package.json
    /composer.json /requirements.txt /config.json /config.yml /config.yaml /config.toml /settings.json
    /settings.py /secrets.json /credentials.json /database.yml /database.sql /db.sqlite3 /dump.sql
    /backup.sql /backup.zip /backup.tar.gz /signalbox.sql /signalbox.tar.gz /id_rsa /server.key /privkey.pem
    /access.log /error.log /logs/app.log /storage/logs/app.log /var/log/syslog /etc/passwd
    /proc/self/environ /static/app.css.map /static/live.js.map /static/.env /static/admin
    # Spellings that have confused servers by themselves.
    // /// /. /.. /./ /../ /%2e /%2e%2e /%2f /%5c /%00 /%20 /%09 /%0a /%0d%0a /; /~ /~root /* /? /?? /% /%zz
    /\ /: /@ /$ /' /[] /{} /%ef%bc%8f /%c0%af /%c0%ae%c0%ae/ /..%c0%af /%252e%252e/ /..;/ /..%00/ /....//
    /static/..%2f..%2f..%2fetc/passwd /static/../../../../etc/passwd /static/%2e%2e/%2e%2e/%2e%2e/etc/passwd
    /static/..%252f..%252fetc/passwd /static/....//....//etc/passwd /static/..%5c..%5cetc/passwd
    /static/%2fetc/passwd /static//etc/passwd /static/../.env /static/../Cargo.toml /static/%00 /static/.
    /static/.. /static/%2e%2e /login/ /login/x /login/.. /login;x /login%00 /login%2f /LOGIN //login
    /login.json /login?/../runs /login?next=//example.com /login?next=https://example.com /healthz/ /healthz?verbose
    /healthz?full=1 /healthz.json /HEALTHZ //example.com //example.com/%2e%2e ///example.com /\example.com
    /%5cexample.com /%2f%2fexample.com /.//example.com /login/..//example.com
"#;

/// The pages that matter, without their first slash, and how their first letter is written in hexadecimal.
const GUARDED: &[&str] =
    &["runs", "runs/1", "runs/1/terminate", "workers", "health", "agents", "mcp", "audit", "account"];

/// Other ways to write a guarded page. `{}` is the page, `{U}` in capitals, `{P}` with its first letter encoded, `{D}`
/// with that encoded twice.
const SPELLINGS: &str = r#"
    /{}/ /{}// //{} ///{} /./{} /{}/. /{}/./ /{}/x/.. /x/../{} /../{} /../../{} /{U} /{P} /{D} /{}%2f /%2f{}
    /%2e/{} /%2e%2e/{} /x/%2e%2e/{} /.%2e/{} /{};x=1 /{};.css /;/{} /x;/../{} /..;/{} /login/../{}
    /login/..%2f{} /login/%2e%2e/{} /login/..;/{} /login/./../{} /login//../{} /login;/../{}
    /login%3f/../{} /login%23/../{} /static/../{} /static/..%2f{} /static/%2e%2e/{} /static/%2e%2e%2f{}
    /static/..;/{} /static/x/../../{} /static/..%5c{} /static//../{} /static/%252e%252e/{} /static/{}
    /healthz/../{} /healthz/%2e%2e/{} /healthz/..;/{} /manifest.webmanifest/../{} /{}.json /{}.html /{}.css
    /{}.js /{}.bak /{}~ /{}%00 /{}%00.css /{}%20 /{}%09 /{}%0a /{}%3f /{}%23 /{}? /{}?x=.css /{}?? /{}/*
    /{}:80 /\{} /{}\ /%5c{} /%ef%bc%8f{} /%c0%af{} /%20{} /{}/login /{}/static/app.css /{}/healthz
    /{}/..;/login /index.php/{} /api/../{} /public/{} /public/../{}
"#;

/// Everything to try on a server: plain doors, guarded pages in every spelling, and pages asked for as from a proxy,
/// with the server's own address in front.
pub fn all(origin: &str) -> impl Iterator<Item = String> {
    let plain = words(PLAIN).map(str::to_owned);
    let spelled = GUARDED.iter().flat_map(|page| words(SPELLINGS).map(move |form| spell(form, page)));
    let from_a_proxy =
        ["/", "/runs", "/audit", "/login/../runs"].map(|path| format!("{origin}{path}")).into_iter();
    plain.chain(spelled).chain(from_a_proxy)
}

/// The words of a list, without its comments.
fn words(list: &'static str) -> impl Iterator<Item = &'static str> {
    let lines = list.lines().filter(|line| !line.trim_start().starts_with("# "));
    lines.flat_map(str::split_whitespace)
}

fn spell(form: &str, page: &str) -> String {
    let (first, rest) = page.split_at(1);
    let code = first.bytes().next().unwrap_or_default();
    form.replace("{}", page)
        .replace("{U}", &page.to_ascii_uppercase())
        .replace("{P}", &format!("%{code:02x}{rest}"))
        .replace("{D}", &format!("%25{code:02x}{rest}"))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::super::door::can_be_sent;
    use super::*;

    #[test]
    fn every_path_can_be_sent_and_there_are_many() {
        let paths: HashSet<String> = all("http://127.0.0.1:8080").collect();
        for path in &paths {
            assert!(can_be_sent(path), "{path:?} would be changed on its way");
        }
        assert!(paths.len() > 1000, "{} paths", paths.len());
    }

    #[test]
    fn guarded_pages_are_spelled_in_many_ways() {
        assert_eq!(spell("/{P}", "runs/1"), "/%72uns/1");
        assert_eq!(spell("/{D}", "runs"), "/%2572uns");
        assert_eq!(spell("/{U}", "runs/1"), "/RUNS/1");
    }
}
