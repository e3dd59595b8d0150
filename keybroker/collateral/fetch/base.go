package fetch

import (
	"net"
	"net/url"
	"strings"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/collateral"
)

// Base is where a server's documents are: the vendor's, or a mirror's. The zero value is no server.
type Base struct {
	url  url.URL
	pace Pace
}

// ParseBase reads a base URL, as https://kdsintf.amd.com or https://mirror.example/kds. It must be
// https; http is for addresses of this machine alone. The pace is what the server bears.
func ParseBase(text string, pace Pace) (Base, error) {
	u, err := url.Parse(text)
	if err != nil {
		return Base{}, refusal.New(collateral.ReasonSource, "%w", err)
	}
	switch {
	case u.Scheme != "https" && u.Scheme != "http", u.Host == "", u.Opaque != "":
		return Base{}, refusal.New(collateral.ReasonSource, "%q is not a URL of the form https://HOST", text)
	case u.Scheme == "http" && !loopback(u.Hostname()):
		return Base{}, refusal.New(collateral.ReasonSource, "%q is http, which is allowed on this machine alone: use https", text)
	case u.User != nil, u.RawQuery != "", u.ForceQuery, u.Fragment != "":
		return Base{}, refusal.New(collateral.ReasonSource, "%q has a user, a query or a fragment; a base URL has none", text)
	}
	u.Path = strings.TrimRight(u.Path, "/")
	u.RawPath = ""
	return Base{*u, pace}, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// IsZero says whether there is no server.
func (b Base) IsZero() bool { return b.url.Host == "" }

// String is the base URL.
func (b Base) String() string { return b.url.String() }

// Request is for a document below the base. The path begins with a slash.
func (b Base) Request(path string, query url.Values, maxBytes int) Request {
	u := b.url
	u.Path += path
	u.RawQuery = query.Encode()
	return Request{url: u, pace: b.pace, maxBytes: maxBytes}
}
