//! The peers at equal features: header replaced, keep-alive to the upstream, no access log, one
//! thread, the same certificate, no session resumption.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Outcome;
use crate::args::Args;
use crate::drive::Target;
use crate::material::{Material, UPSTREAM_KEY};
use crate::process::{Running, free_ports};
use crate::rows::Subject;
use crate::upstream::Addresses;

/// Everything that a configuration names.
struct Places<'a> {
    directory: &'a Path,
    material: &'a Material,
    upstream: &'a Addresses,
    plain: SocketAddr,
    tls: SocketAddr,
    relays: [SocketAddr; 3],
}

/// Starts one peer.
///
/// # Errors
/// It is not installed, or a file cannot be written.
pub(crate) fn start(
    args: &Args,
    subject: Subject,
    material: &Material,
    upstream: &Addresses,
) -> Outcome<(Running, Target)> {
    let program = program(args, subject).ok_or("is not installed (scripts/bench.sh does it)")?;
    let directory =
        tempfile::Builder::new().prefix(subject.name()).tempdir_in(material.directory())?;
    let [plain, tls, echo, source, sink] = free_ports::<5>()?;
    let relays = [echo, source, sink];
    let places = Places { directory: directory.path(), material, upstream, plain, tls, relays };
    let (text, has_relays) = match subject {
        Subject::Haproxy => (haproxy(&places, 16_384), true),
        Subject::HaproxyRelay => (haproxy(&places, 65_536), true),
        Subject::Nginx => (nginx(&places), true),
        Subject::Envoy => (envoy(&places), false),
        _ => return Err("is no peer".into()),
    };
    let config =
        directory.path().join(if subject == Subject::Envoy { "peer.yaml" } else { "peer.conf" });
    fs::write(&config, text)?;
    let log = match &args.keep {
        Some(keep) => {
            fs::create_dir_all(keep)?;
            fs::copy(&config, keep.join(format!("{}.conf", subject.name())))?;
            keep.join(format!("{}.log", subject.name()))
        }
        None => directory.path().join("log"),
    };
    let config = config.display().to_string();
    let arguments: Vec<&str> = match subject {
        Subject::Haproxy | Subject::HaproxyRelay => vec!["-db", "-f", &config],
        Subject::Nginx => vec!["-e", "stderr", "-c", &config],
        _ => vec!["-c", &config, "--concurrency", "1", "-l", "error", "--disable-hot-restart"],
    };
    let process = Running::start(program, arguments, args.proxy_core, log, vec![directory])?;
    let relays = has_relays.then_some(relays);
    // The peers do not verify it, but they get a token of the same length to replace.
    Ok((process, Target::new([plain, tls], relays, &material.token, material)))
}

/// The peer's version as it prints it.
pub(crate) fn version(args: &Args, subject: Subject) -> Option<String> {
    let flag = if subject == Subject::Envoy { "--version" } else { "-v" };
    let out = Command::new(program(args, subject)?).arg(flag).output().ok()?;
    let text = [out.stdout, out.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    let line = text.lines().find(|line| !line.trim().is_empty())?.trim();
    if subject == Subject::Envoy {
        // commit/version/state/kind/library
        return line.rsplit(" version: ").next()?.split('/').nth(1).map(|v| format!("Envoy {v}"));
    }
    let line = line.split(" - ").next()?.trim_start_matches("nginx version: ");
    Some(line.to_owned())
}

fn program(args: &Args, subject: Subject) -> Option<PathBuf> {
    let name = match subject {
        Subject::Haproxy | Subject::HaproxyRelay => "haproxy",
        Subject::Nginx => "nginx",
        _ => return args.envoy.clone().filter(|path| path.is_file()),
    };
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/usr/local/sbin".into()])
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
}

fn haproxy(places: &Places<'_>, buffer_len: usize) -> String {
    let file = |name: &str| places.material.path(name).display().to_string();
    let (pem, ca) = (file("server.pem"), file("ca.pem"));
    let Addresses { http, https, echo, source, sink } = places.upstream;
    let [relay_echo, relay_source, relay_sink] = places.relays;
    let (plain, tls) = (places.plain, places.tls);
    let mutual = format!("ssl crt {pem} ca-file {ca} verify required no-tls-tickets");
    // `http-no-delay`: without it an event that follows the head waits 200 ms in the kernel.
    // 16 KiB is its default; 64 KiB is what the gateway takes for bulk, and needs a process of its
    // own. Splicing is off, as it is by default.
    format!(
        "global
    nbthread 1
    maxconn 8000
    tune.ssl.cachesize 0
    tune.bufsize {buffer_len}
defaults
    timeout connect 5s
    timeout client 120s
    timeout server 120s
    timeout http-keep-alive 120s
    http-reuse always
    option http-no-delay
frontend plain
    mode http
    bind {plain}
    http-request set-header Authorization \"Bearer {UPSTREAM_KEY}\"
    default_backend plain-up
backend plain-up
    mode http
    server up {http}
frontend tls
    mode http
    bind {tls} ssl crt {pem} no-tls-tickets
    http-request set-header Authorization \"Bearer {UPSTREAM_KEY}\"
    default_backend tls-up
backend tls-up
    mode http
    server up {https} ssl verify required ca-file {ca} verifyhost localhost sni str(localhost)
listen echo
    mode tcp
    bind {relay_echo} {mutual}
    server up {echo}
listen source
    mode tcp
    bind {relay_source} {mutual}
    server up {source}
listen sink
    mode tcp
    bind {relay_sink} {mutual}
    server up {sink}
"
    )
}

fn nginx(places: &Places<'_>) -> String {
    let file = |name: &str| places.material.path(name).display().to_string();
    let (cert, key, ca) = (file("server.crt"), file("server.key"), file("ca.pem"));
    let directory = places.directory.display();
    let Addresses { http, https, .. } = places.upstream;
    let (plain, tls) = (places.plain, places.tls);
    let location = format!(
        "proxy_http_version 1.1;
            proxy_set_header Connection \"\";
            proxy_set_header Host localhost;
            proxy_set_header Authorization \"Bearer {UPSTREAM_KEY}\";
            proxy_buffering off;
            proxy_read_timeout 120s;"
    );
    let module = "/usr/lib/nginx/modules/ngx_stream_module.so";
    let (load, stream) = if Path::new(module).is_file() {
        let services = [places.upstream.echo, places.upstream.source, places.upstream.sink];
        let servers: String = places
            .relays
            .iter()
            .zip(services)
            .map(|(listen, service)| {
                format!(
                    "    server {{
        listen {listen} ssl;
        ssl_certificate {cert}; ssl_certificate_key {key};
        ssl_client_certificate {ca}; ssl_verify_client on;
        ssl_session_cache off; ssl_session_tickets off;
        proxy_buffer_size 64k;
        proxy_pass {service};
    }}\n"
                )
            })
            .collect();
        (format!("load_module {module};\n"), format!("stream {{\n{servers}}}\n"))
    } else {
        (String::new(), String::new())
    };
    // Answers are passed on as they come (`proxy_buffering off`): an event stream needs it, and a
    // 1 KiB answer fits the first read either way.
    format!(
        "{load}daemon off;
master_process off;
worker_processes 1;
worker_rlimit_nofile 20000;
error_log stderr crit;
pid {directory}/nginx.pid;
events {{ worker_connections 16000; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 120s;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    proxy_max_temp_file_size 0;
    upstream plain_up {{ server {http}; keepalive 1024; keepalive_requests 1000000000; }}
    upstream tls_up {{ server {https}; keepalive 1024; keepalive_requests 1000000000; }}
    server {{
        listen {plain};
        location / {{
            {location}
            proxy_pass http://plain_up;
        }}
    }}
    server {{
        listen {tls} ssl;
        ssl_certificate {cert}; ssl_certificate_key {key};
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_session_cache off; ssl_session_tickets off;
        location / {{
            {location}
            proxy_ssl_trusted_certificate {ca};
            proxy_ssl_verify on;
            proxy_ssl_name localhost;
            proxy_ssl_server_name on;
            proxy_ssl_protocols TLSv1.2 TLSv1.3;
            proxy_pass https://tls_up;
        }}
    }}
}}
{stream}"
    )
}

fn envoy(places: &Places<'_>) -> String {
    let file = |name: &str| places.material.path(name).display().to_string();
    let (cert, key, ca) = (file("server.crt"), file("server.key"), file("ca.pem"));
    let listener = |name: &str, at: SocketAddr, socket: &str| {
        format!(
            "  - name: {name}
    address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          \"@type\": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: {name}
          generate_request_id: false
          route_config:
            virtual_hosts:
            - name: all
              domains: [\"*\"]
              request_headers_to_add:
              - header: {{ key: authorization, value: \"Bearer {UPSTREAM_KEY}\" }}
                append_action: OVERWRITE_IF_EXISTS_OR_ADD
              routes:
              - match: {{ prefix: / }}
                route: {{ cluster: {name}, timeout: 0s }}
          http_filters:
          - name: envoy.filters.http.router
            typed_config:
              \"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
              suppress_envoy_headers: true
{socket}",
            port = at.port()
        )
    };
    let cluster = |name: &str, at: SocketAddr, socket: &str| {
        format!(
            "  - name: {name}
    type: STATIC
    connect_timeout: 5s
    circuit_breakers: {{ thresholds: [{{ max_connections: 20000, max_pending_requests: 20000, max_requests: 20000 }}] }}
    load_assignment:
      cluster_name: {name}
      endpoints:
      - lb_endpoints:
        - endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }} }}
{socket}",
            port = at.port()
        )
    };
    let server_tls = format!(
        "      transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          \"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          disable_stateless_session_resumption: true
          disable_stateful_session_resumption: true
          common_tls_context:
            tls_certificates:
            - certificate_chain: {{ filename: {cert} }}
              private_key: {{ filename: {key} }}
"
    );
    let client_tls = format!(
        "    transport_socket:
      name: envoy.transport_sockets.tls
      typed_config:
        \"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
        sni: localhost
        common_tls_context:
          validation_context: {{ trusted_ca: {{ filename: {ca} }} }}
"
    );
    format!(
        "static_resources:
  listeners:
{}{}  clusters:
{}{}",
        listener("plain", places.plain, ""),
        listener("tls", places.tls, &server_tls),
        cluster("plain", places.upstream.http, ""),
        cluster("tls", places.upstream.https, &client_tls),
    )
}
