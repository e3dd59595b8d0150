package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/identity/idfile"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
)

const maxCredentialBytes = 64 << 10

// publisher is who signs the release.
type publisher struct {
	key       *identity.Private
	throwaway bool
}

// openPublisher opens the key that the options name. Without any it makes one that is
// forgotten when the program ends: its signature shows that signing works, and nothing else.
func openPublisher(o options) (*publisher, error) {
	switch {
	case o.key == "" && o.credential == "":
		k, err := identity.Generate(identity.LevelEpoch)
		return &publisher{key: k, throwaway: true}, err
	case o.key == "" || o.credential == "":
		return nil, errors.New("-key and -credential are required together: the publisher's key file and the credential that unlocks it")
	}
	secret, err := readCredential(o.credential)
	if err != nil {
		return nil, err
	}
	defer secret.Wipe()
	k, err := idfile.Read(o.key, idfile.Unlock{Credential: secret})
	if err != nil {
		return nil, err
	}
	if k.Public().Level() != identity.LevelEpoch {
		k.Wipe()
		return nil, fmt.Errorf("%s is not a publisher's key; make one with: anchorhold keygen publisher", o.key)
	}
	return &publisher{key: k}, nil
}

func readCredential(name string) (*keybuf.Buffer, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close() // read only
	data, err := io.ReadAll(io.LimitReader(f, maxCredentialBytes))
	if err != nil {
		return nil, err
	}
	return keybuf.Take(data)
}

// publicName is the file with the public key. A throwaway key's says so, because whoever finds
// the directory later must not take it for the project's.
func (p *publisher) publicName() string {
	if p.throwaway {
		return "THROWAWAY.pub"
	}
	return "publisher.pub"
}

func (p *publisher) remark() string {
	if p.throwaway {
		return ", a THROWAWAY key that is gone now: do not publish this (RELEASE_KEY and RELEASE_CREDENTIAL name a real one)"
	}
	return ""
}

func (p *publisher) writePublic(dir string) error {
	return idfile.WritePublic(filepath.Join(dir, p.publicName()), p.key.Public())
}
