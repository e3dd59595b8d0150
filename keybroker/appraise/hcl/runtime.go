package hcl

import (
	"crypto/rsa"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"math/big"
	"slices"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
)

// Limits and values of the runtime data.
const (
	maxKeys          = 4
	maxUserDataBytes = 64
	maxTextBytes     = 128
	maxUnknown       = 32

	keyBits         = 2048
	defaultExponent = 65537

	akID, ekID = "HCLAkPub", "HCLEkPub"
)

// readRuntime reads the JSON of the runtime data.
func readRuntime(text []byte) (Runtime, error) {
	o, err := decodeObject(text)
	if err != nil {
		return Runtime{}, refusal.New(ReasonRuntimeData, "%w", err)
	}
	p := parser{}
	keys, hasKeys := o["keys"].([]any)
	config, hasConfig := o["vm-configuration"].(object)
	if !hasKeys || !hasConfig || len(keys) > maxKeys {
		return Runtime{}, refusal.New(ReasonRuntimeData, "no list of at most %d keys, or no VM configuration", maxKeys)
	}
	if err := p.keys(keys); err != nil {
		return Runtime{}, err
	}
	if err := p.configuration(config); err != nil {
		return Runtime{}, err
	}
	if err := p.userData(o); err != nil {
		return Runtime{}, err
	}
	p.unknown("", o, "keys", "vm-configuration", "user-data")
	if len(p.claims().Unknown) > maxUnknown {
		return Runtime{}, refusal.New(ReasonRuntimeData, "more than %d unknown members", maxUnknown)
	}
	slices.Sort(p.claims().Unknown)
	return p.out, nil
}

// parser collects what the runtime data says.
type parser struct{ out Runtime }

func (p *parser) claims() *evidence.AzureClaims { return &p.out.Claims }

// unknown names the members of an object that are not among the known ones.
func (p *parser) unknown(path string, o object, known ...string) {
	for name := range o {
		if !slices.Contains(known, name) {
			p.claims().Unknown = append(p.claims().Unknown, path+name)
		}
	}
}

// keys finds the attestation key, which must be there, and the endorsement key.
func (p *parser) keys(list []any) (err error) {
	seen := map[string]bool{}
	for _, v := range list {
		o, isObject := v.(object)
		kid, isText := o["kid"].(string)
		if !isObject || !isText || len(kid) > maxNameBytes || !printable(kid) || seen[kid] {
			return refusal.New(ReasonKey, "a key without a name of its own")
		}
		seen[kid] = true
		switch kid {
		case akID:
			p.out.AK, p.claims().AK, err = readKey(o, "sign")
		case ekID:
			p.out.EK, p.claims().EK, err = readKey(o, "encrypt")
		default:
			p.claims().Unknown = append(p.claims().Unknown, "keys."+kid)
			continue
		}
		if err != nil {
			return err
		}
		p.unknown("keys."+kid+".", o, "kid", "kty", "key_ops", "e", "n")
	}
	if p.out.AK == nil {
		return refusal.New(ReasonKey, "no key is called %s", akID)
	}
	return nil
}

// readKey reads an RSA public key of 2048 bits in a JSON Web Key (RFC 7517) that is for one use.
func readKey(o object, use string) (*rsa.PublicKey, evidence.Hex, error) {
	kid := o["kid"]
	if o["kty"] != "RSA" {
		return nil, nil, refusal.New(ReasonKey, "%s is not an RSA key", kid)
	}
	if ops, ok := o["key_ops"].([]any); !ok || len(ops) != 1 || ops[0] != use {
		return nil, nil, refusal.New(ReasonKey, "%s is not for %q alone", kid, use)
	}
	e, okE := base64URL(o["e"])
	n, okN := base64URL(o["n"])
	if !okE || new(big.Int).SetBytes(e).Cmp(big.NewInt(defaultExponent)) != 0 {
		return nil, nil, refusal.New(ReasonKey, "the exponent of %s is not %d", kid, defaultExponent)
	}
	modulus := new(big.Int).SetBytes(n)
	if !okN || len(n) != keyBits/8 || modulus.BitLen() != keyBits || modulus.Bit(0) == 0 {
		return nil, nil, refusal.New(ReasonKey, "the modulus of %s has %d bits, or is even; want %d bits", kid, modulus.BitLen(), keyBits)
	}
	key := &rsa.PublicKey{N: modulus, E: defaultExponent}
	digest, err := keyDigest(key)
	return key, digest, err
}

// base64URL decodes canonical base64url without padding.
func base64URL(v any) ([]byte, bool) {
	text, ok := v.(string)
	if !ok {
		return nil, false
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	// The decoder skips line ends, which make two texts of one value.
	return b, err == nil && base64.RawURLEncoding.EncodedLen(len(b)) == len(text)
}

// configuration reads the VM's configuration; a member of another type than it should have is
// refused.
func (p *parser) configuration(o object) error {
	c := p.claims()
	flags := map[string]**bool{
		"secure-boot": &c.SecureBoot, "tpm-enabled": &c.TPMEnabled, "tpm-persisted": &c.TPMPersisted, "console-enabled": &c.Console,
		"interactive-console-enabled": &c.InteractiveConsole, "filtered-vpci-devices-allowed": &c.FilteredVPCI, "ipmi-enabled": &c.IPMI,
	}
	texts := map[string]*string{
		"vmUniqueId": &c.VMID, "root-cert-thumbprint": &c.RootCertThumbprint, "tpm-version": &c.TPMVersion, "hardware-sealing-policy": &c.HardwareSealing,
	}
	for name, v := range o {
		if to, known := flags[name]; known {
			b, ok := v.(bool)
			if !ok {
				return refusal.New(ReasonRuntimeData, "%q is not true or false", name)
			}
			*to = &b
		} else if to, known := texts[name]; known {
			s, ok := v.(string)
			if !ok || len(s) > maxTextBytes || !printable(s) {
				return refusal.New(ReasonRuntimeData, "%q is not a text of at most %d printable characters", name, maxTextBytes)
			}
			*to = s
		} else if name == "current-time" {
			n, _ := v.(json.Number)
			t, err := n.Int64()
			if err != nil {
				return refusal.New(ReasonRuntimeData, "%q is not a whole number", name)
			}
			c.CurrentTime = &t
		} else {
			c.Unknown = append(c.Unknown, "vm-configuration."+name)
		}
	}
	return nil
}

// userData reads what the guest had put in, which may be left out.
func (p *parser) userData(o object) error {
	v, has := o["user-data"]
	if !has {
		return nil
	}
	text, ok := v.(string)
	b, err := hex.DecodeString(text)
	if !ok || err != nil || len(b) > maxUserDataBytes {
		return refusal.New(ReasonRuntimeData, "the user data is not hexadecimal of at most %d bytes", maxUserDataBytes)
	}
	p.claims().UserData = b
	return nil
}
