# nginx in front of the two replicas of the profile `galera` of docker-compose.yml.
FROM nginx:1.28
COPY nginx.conf /etc/nginx/iredapi.conf
COPY nginx-replicas.conf /etc/nginx/conf.d/iredapi-replicas.conf
RUN sed -i 's|http://127\.0\.0\.1:8000;|http://iredapi;|' /etc/nginx/iredapi.conf \
    && sed -i 's|192\.0\.2\.1:|api-galera-1:|; s|192\.0\.2\.2:|api-galera-2:|' /etc/nginx/conf.d/iredapi-replicas.conf \
    && printf 'server {\n    listen 8080;\n    include iredapi.conf;\n}\n' > /etc/nginx/conf.d/default.conf
