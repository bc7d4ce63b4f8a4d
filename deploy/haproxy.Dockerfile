# HAProxy in front of the profile `galera` of docker-compose.yml.
FROM haproxy:3.0
COPY haproxy-galera.cfg /usr/local/etc/haproxy/haproxy.cfg
