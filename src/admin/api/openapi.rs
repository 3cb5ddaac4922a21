//! The OpenAPI document, made from the types of the answers, so that it cannot say anything else than they do.

use std::sync::Arc;

use axum::{Json, Router, http::StatusCode, routing::get};
use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use super::super::{
    AdminState,
    answer::{PROBLEM_TYPE, ProblemDetails},
};

/// The document while it is written.
pub(in crate::admin) struct Document {
    schemas: SchemaGenerator,
    paths: Map<String, Value>,
}

/// One method of one path.
pub(in crate::admin) struct Operation<'a> {
    document: &'a mut Document,
    path: &'static str,
    method: &'static str,
    value: Map<String, Value>,
}

impl Document {
    fn new() -> Self {
        // OpenAPI 3.1 takes JSON Schema 2020-12 as it is.
        let settings = SchemaSettings::draft2020_12().with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
        });
        Self { schemas: settings.into_generator(), paths: Map::new() }
    }

    /// Begins an operation. `id` is unique; `summary` one line.
    pub(in crate::admin) fn operation(
        &mut self,
        method: &'static str,
        path: &'static str,
        id: &str,
        summary: &str,
    ) -> Operation<'_> {
        let value = json!({"operationId": id, "summary": summary, "responses": {}});
        let Value::Object(value) = value else { unreachable!("it is an object") };
        let operation = Operation { document: self, path, method, value };
        let changes = method != "get";
        let operation = operation
            .fails(StatusCode::UNAUTHORIZED, "The token is missing or wrong.")
            .fails(StatusCode::MISDIRECTED_REQUEST, "The Host field does not name the admin listener.");
        match changes {
            true => operation.changes(),
            false => operation,
        }
    }

    fn schema<T: JsonSchema>(&mut self) -> Schema {
        self.schemas.subschema_for::<T>()
    }

    fn finish(mut self) -> Value {
        let schemas = self.schemas.take_definitions(true);
        json!({
            "openapi": "3.1.0",
            "info": {
                "title": "Weir admin API",
                "version": env!("CARGO_PKG_VERSION"),
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
                "description": "State and commands of one edge. Reading on loopback needs no token unless one is \
                    configured; everything else needs `Authorization: Bearer TOKEN`. Problems are answered as RFC 9457 says.",
            },
            "servers": [{"url": "/"}],
            "security": [{}, {"token": []}],
            "paths": self.paths,
            "components": {
                "schemas": schemas,
                "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "`admin.token`, or the one made at start."}},
            },
        })
    }
}

impl Operation<'_> {
    fn changes(mut self) -> Self {
        self.value.insert("security".into(), json!([{"token": []}]));
        self.fails(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "The body is of a type that a form can send, or not of the type that is read.",
        )
    }

    /// A part of the path in braces.
    pub(in crate::admin) fn parameter(mut self, name: &str, description: &str) -> Self {
        let parameter = json!({"name": name, "in": "path", "required": true, "description": description, "schema": {"type": "string", "minLength": 1}});
        self.list("parameters").push(parameter);
        self
    }

    /// A body in JSON.
    pub(in crate::admin) fn takes<T: JsonSchema>(mut self) -> Self {
        let schema = self.document.schema::<T>();
        self.body(true, "application/json", schema.to_value());
        self.fails(StatusCode::BAD_REQUEST, "The request cannot be read.")
    }

    /// A body in JSON, or none.
    pub(in crate::admin) fn takes_or_nothing<T: JsonSchema>(mut self) -> Self {
        let schema = self.document.schema::<T>();
        self.body(false, "application/json", schema.to_value());
        self
    }

    /// A configuration file as the body.
    pub(in crate::admin) fn takes_file(mut self) -> Self {
        self.body(true, "application/yaml", json!({"type": "string", "description": "A configuration file, at most 10 MiB."}));
        self
    }

    fn body(&mut self, required: bool, media_type: &str, schema: Value) {
        let content = json!({media_type: {"schema": schema}});
        self.value.insert("requestBody".into(), json!({"required": required, "content": content}));
        let description = "The body is larger than anything that is read.";
        let schema = self.document.schema::<ProblemDetails>();
        self.response(StatusCode::PAYLOAD_TOO_LARGE, description, PROBLEM_TYPE, schema.to_value());
    }

    /// A parameter of the query.
    pub(in crate::admin) fn query(mut self, name: &str, description: &str, schema: Value) -> Self {
        self.list("parameters").push(json!({"name": name, "in": "query", "description": description, "schema": schema}));
        self
    }

    /// A header field of the request.
    pub(in crate::admin) fn header(mut self, name: &str, description: &str, schema: Value) -> Self {
        self.list("parameters").push(json!({"name": name, "in": "header", "description": description, "schema": schema}));
        self
    }

    fn list(&mut self, key: &str) -> &mut Vec<Value> {
        let list = self.value.entry(key).or_insert_with(|| json!([]));
        let Value::Array(list) = list else { unreachable!("it was made as a list") };
        list
    }

    /// An answer in JSON.
    pub(in crate::admin) fn answers<T: JsonSchema>(mut self, status: StatusCode, description: &str) -> Self {
        let schema = self.document.schema::<T>();
        self.response(status, description, "application/json", schema.to_value());
        self
    }

    /// An answer of another type.
    pub(in crate::admin) fn answers_text(mut self, status: StatusCode, description: &str, media_type: &str) -> Self {
        self.response(status, description, media_type, json!({"type": "string"}));
        self
    }

    /// A refusal.
    pub(in crate::admin) fn fails(mut self, status: StatusCode, description: &str) -> Self {
        let schema = self.document.schema::<ProblemDetails>();
        self.response(status, description, PROBLEM_TYPE, schema.to_value());
        self
    }

    fn response(&mut self, status: StatusCode, description: &str, media_type: &str, schema: Value) {
        let responses = &mut self.value["responses"][status.as_str()];
        responses["description"] = description.into();
        responses["content"][media_type] = json!({"schema": schema});
    }

    /// Enters it in the document.
    pub(in crate::admin) fn done(self) {
        let Self { document, path, method, value } = self;
        document.paths.entry(path).or_insert_with(|| json!({}))[method] = value.into();
    }
}

/// The document of everything below `/api/v1`.
fn document() -> Value {
    let mut document = Document::new();
    super::describe(&mut document);
    document.finish()
}

pub(super) fn router() -> Router<Arc<AdminState>> {
    Router::new().route("/api/v1/openapi.json", get(async || Json(document())))
}

pub(super) fn describe(document: &mut Document) {
    document
        .operation("get", "/api/v1/openapi.json", "openapi", "This document.")
        .answers::<Map<String, Value>>(StatusCode::OK, "An OpenAPI 3.1 document.")
        .done();
}
