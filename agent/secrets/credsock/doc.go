// Package credsock hands secrets to systemd on a unix socket: as credentials of units
// (LoadCredential=ID:SOCKET, systemd.exec(5)) and as keys of encrypted volumes (a socket as the key
// file of crypttab(5)).
//
// systemd asks by connecting from an abstract address that names the unit and the credential, or
// the volume, sends nothing, and takes what it reads until the end. So the end of a connection is
// always an answer: if nothing came before it, the unit starts with an empty credential. Hence
//
//   - a connection is not accepted before there is an answer for it: those that wait stay in the
//     kernel's queue, where they outlive a crash of the agent, and are reset if the socket is closed
//   - a secret is written in one piece, which fits the socket's buffer, or not at all
//   - who is refused gets more random bytes than a credential may have, which fails the unit, and
//     which open no volume, not even one whose key slot somebody chose; a reader that the host starves
//     is waited for, because a unit would start with the part that it has read
//
// Anybody can bind such an address, so only root's are believed: root can read the agent's memory
// anyway. The package trusts the kernel's peer credentials. The key of a volume is handed out only
// if its validated header is there and is valid (package luks): LUKS does not authenticate headers,
// and a disk's owner could have the key used for a volume without encryption.
//
// An agent that ends cannot wait: who has read less than a credential may have by then, 10 s after the
// end began, has a part of those random bytes, and nothing that was secret.
//
// The agent runs one [Server].
package credsock
