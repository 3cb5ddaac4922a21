//! Directives by what is done with them: nothing, since nothing is needed, or something, elsewhere in this room.

/// What needs nothing here: Weir does it in its own way, or does not have what it is about.
const UNNEEDED: &str = "\
    absolute_redirect accept_mutex access_log aio aio_write brotli_buffers brotli_static brotli_window charset \
    charset_types chunked_transfer_encoding client_body_buffer_size client_body_in_file_only \
    client_body_in_single_buffer client_body_temp_path client_header_buffer_size connection_pool_size daemon \
    default_type directio env error_log etag events gzip_buffers gzip_disable gzip_http_version gzip_proxied \
    gzip_static gzip_vary http2 http2_body_preread_size http2_chunk_size http2_idle_timeout http2_max_field_size \
    http2_max_header_size http2_max_requests http2_recv_buffer_size http2_recv_timeout if_modified_since \
    ignore_invalid_headers internal keepalive keepalive_disable keepalive_requests keepalive_time \
    large_client_header_buffers least_time limit_conn_log_level limit_req_log_level lingering_close lingering_time \
    lingering_timeout load_module log_format log_not_found log_subrequest map_hash_bucket_size map_hash_max_size \
    master_process max_ranges merge_slashes msie_padding multi_accept open_file_cache open_file_cache_errors \
    open_file_cache_min_uses open_file_cache_valid open_log_file_cache output_buffers pcre_jit pid port_in_redirect \
    postpone_output proxy_buffer_size proxy_buffering proxy_buffers proxy_busy_buffers_size proxy_force_ranges \
    proxy_headers_hash_bucket_size proxy_headers_hash_max_size proxy_http_version proxy_ignore_client_abort \
    proxy_max_temp_file_size proxy_pass_header proxy_pass_request_body proxy_pass_request_headers \
    proxy_request_buffering proxy_send_lowat proxy_socket_keepalive proxy_ssl_ciphers proxy_ssl_protocols \
    proxy_ssl_server_name proxy_ssl_session_reuse proxy_ssl_verify_depth proxy_temp_file_write_size proxy_temp_path \
    read_ahead recursive_error_pages request_pool_size reset_timedout_connection resolver resolver_timeout \
    rewrite_log send_lowat sendfile sendfile_max_chunk server_name_in_redirect server_names_hash_bucket_size \
    server_names_hash_max_size server_tokens ssl_buffer_size ssl_ciphers ssl_conf_command ssl_dhparam ssl_early_data \
    ssl_ecdh_curve ssl_password_file ssl_prefer_server_ciphers ssl_session_cache ssl_session_ticket_key \
    ssl_session_tickets ssl_session_timeout ssl_stapling ssl_stapling_file ssl_stapling_responder ssl_stapling_verify \
    ssl_trusted_certificate ssl_verify_depth subrequest_output_buffer_size tcp_nodelay tcp_nopush thread_pool \
    timer_resolution types types_hash_bucket_size types_hash_max_size uninitialized_variable_warn use user \
    variables_hash_bucket_size variables_hash_max_size worker_aio_requests worker_connections worker_cpu_affinity \
    worker_priority worker_processes worker_rlimit_core worker_rlimit_nofile worker_shutdown_timeout \
    working_directory zone";

/// What is read in this room. What cannot be carried over of it is said where it is read.
const READ: &str = "\
    add_header alias allow auth_basic auth_basic_user_file auth_request auth_request_set break brotli \
    brotli_comp_level brotli_min_length brotli_types client_body_timeout client_header_timeout client_max_body_size \
    deny error_page expires fastcgi_pass grpc_connect_timeout grpc_pass grpc_read_timeout grpc_send_timeout grpc_set_header gzip gzip_comp_level gzip_min_length gzip_types \
    http if index keepalive_timeout limit_conn limit_conn_status limit_conn_zone limit_req limit_req_status \
    limit_req_zone listen location map memcached_pass more_clear_headers more_clear_input_headers more_set_headers \
    proxy_connect_timeout proxy_cookie_domain proxy_cookie_path proxy_hide_header proxy_intercept_errors proxy_next_upstream proxy_next_upstream_timeout \
    proxy_next_upstream_tries proxy_pass proxy_read_timeout proxy_redirect proxy_send_timeout proxy_set_header \
    proxy_ssl_certificate proxy_ssl_certificate_key proxy_ssl_name proxy_ssl_trusted_certificate proxy_ssl_verify \
    real_ip_header real_ip_recursive return rewrite root scgi_pass send_timeout server server_name set \
    set_real_ip_from ssl ssl_certificate ssl_certificate_key ssl_client_certificate ssl_protocols ssl_verify_client \
    stream try_files underscores_in_headers upstream uwsgi_pass";

/// What is done with a directive of this name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It needs nothing.
    Unneeded,
    /// It is read where it counts.
    Read,
    /// It belongs to a protocol that is not spoken, and goes with the `_pass` of it.
    WithPass,
    /// There is nothing for it.
    Unknown,
}

/// What is done with a directive of this name.
pub fn fate(name: &str) -> Fate {
    if READ.split(' ').any(|known| known == name) {
        Fate::Read
    } else if UNNEEDED.split(' ').any(|known| known == name) {
        Fate::Unneeded
    } else if ["fastcgi_", "uwsgi_", "scgi_", "memcached_"].iter().any(|start| name.starts_with(start)) {
        Fate::WithPass
    } else {
        Fate::Unknown
    }
}

/// Why there is nothing for it, where more can be said than that.
pub fn why(name: &str) -> &'static str {
    match name {
        name if name.contains("_by_lua") => "Weir runs no Lua",
        name if name.starts_with("js_") => "Weir runs no JavaScript",
        name if name.starts_with("perl") => "Weir runs no Perl",
        name if name.starts_with("proxy_cache") || name.starts_with("open_file") => {
            "write the filter `cache` and the top-level `cache` by hand: docs/caching.md"
        }
        "sub_filter" | "sub_filter_once" | "sub_filter_types" => "bodies are not changed",
        "stub_status" => "the admin listener has the metrics",
        "autoindex" | "autoindex_exact_size" | "autoindex_localtime" | "autoindex_format" => "directories are not listed",
        "geo" | "geoip_country" | "geoip2" | "geoip_city" => "countries are matched by `match.country` with `geoip` at the top",
        "satisfy" => "all conditions must hold",
        "split_clients" => "a route has `split` for shares by chance",
        "limit_rate" | "limit_rate_after" | "proxy_limit_rate" => "the speed of a response is not limited",
        "mirror" => "the filter `mirror` sends copies to another upstream",
        "proxy_cookie_flags" => "no attributes are added to cookies",
        "proxy_method" | "proxy_set_body" => "the method and the body are passed on as they are",
        "proxy_bind" => "the system chooses the address that endpoints are called from",
        "proxy_protocol" => "endpoints over HTTP get no PROXY protocol",
        "auth_jwt" | "auth_jwt_key_file" => "the filter `jwt` verifies tokens",
        "ssl_reject_handshake" => "a name without a certificate gets the first one",
        "health_check" | "check" => "write `health_check` in the upstream",
        super::parse::MISSING => "the file is not here, so nothing of it is carried over",
        _ => "no counterpart",
    }
}
