// Package inputs keeps, beside the audit log, what past decisions were decided on, so that
// another policy can be asked what it would have said.
//
// A record of the log names the SHA-256 of a document; the document itself, some kilobytes of JSON,
// lies here, found by that digest. What comes out of [Reader.Get] has the digest that was asked for,
// so the log vouches for it. The package knows nothing of what is in a document: its callers promise
// that it holds no secret.
//
// Documents are an aid and not the record. Nothing waits for them: [Store.Keep] puts one in line, and
// it is written within a second. A disk that is full, a crash or a store that cannot be opened loses
// documents, is logged and counted, and refuses nothing; the record that names a lost document still
// stands. The store is bounded by age and by size, and what refused guests cause can take at most half
// of it. docs/audit-log.md has the format and the reasons.
//
// The audit log owns a [Store]; [Open] is for whoever reads a log's directory or a copy of it.
package inputs
